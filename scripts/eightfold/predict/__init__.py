"""From networks to answers: views averaged, members weighed, figures, the submission, new images, export."""

"""The last words on the terminal."""

from eightfold.closing import summary
from eightfold.files import write_json, write_text


def test_it_says_the_score_and_where_to_look(tmp_path):
    final = {"accuracy": 0.9, "log_loss": 0.25, "images": 100}
    write_json(tmp_path / "metrics.json", {"final": final})
    write_text(tmp_path / "report.html", "")
    assert "accuracy 0.9000 ± 0.0300, log loss 0.2500, on 100" in summary(tmp_path)
    assert "report.html" in summary(tmp_path) and "submission.csv" not in summary(tmp_path)


def test_a_run_without_figures_is_no_error(tmp_path):
    assert summary(tmp_path) == ""
    write_json(tmp_path / "metrics.json", {"final": {}})
    assert summary(tmp_path) == ""

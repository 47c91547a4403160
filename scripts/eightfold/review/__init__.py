"""What people look at: plots, sheets, the report, the comparison."""

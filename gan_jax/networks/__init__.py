"""Networks: linen modules, one family a file, behind `Net`."""

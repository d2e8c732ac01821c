"""What those who run this see and mend: status, troubles, the books, what was put aside."""

"""The student: encoders, residual fusion heads (Eq. 13), decoder."""

"""The corrector (Algorithms 1 and 2, and a second-order solver), the certificate, degeneracy."""

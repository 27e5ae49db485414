"""The exercises of chapter 12. A level is a pair (alpha, sigma); steps lead from `now` to the less noisy `then`."""

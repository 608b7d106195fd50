//! What past incidents cost: JSON for programs, text for people. Prints nothing itself.

//! The application's key: where it comes from, what the application really uses of it, its name, and the proof.

pub mod credential;

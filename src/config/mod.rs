//! `strongroom.toml`, application profiles and policies: parsed once into types that cannot be wrong.

pub mod profile;

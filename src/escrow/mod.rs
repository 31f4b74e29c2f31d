//! Places that keep sealed application keys.

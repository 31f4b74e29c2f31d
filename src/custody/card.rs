//! The recovery card.

//! What was made once and must be read for ever, here and elsewhere.

mod cctv;

//! The format: header, proof, file list, parts, sums; writer and reader.

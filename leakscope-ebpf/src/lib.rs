#![no_std]
//! This library exists so that cargo rebuilds `leakscope` when the kernel side changes; the programs are in
//! `main.rs`.

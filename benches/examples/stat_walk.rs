//! The yardstick of an unchanged context: lists a directory and all below it, asks for the state of every entry, on all
//! cores, and prints how many there are. Nothing is kept.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use rayon::prelude::*;

fn main() -> io::Result<()> {
    let Some(root) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("which directory? stat_walk DIRECTORY"));
    };
    let mut ahead = vec![PathBuf::from(root)];
    let mut count = 0;
    while !ahead.is_empty() {
        let level: Vec<(usize, Vec<PathBuf>)> = ahead
            .par_iter()
            .map(|directory| {
                let mut inside = Vec::new();
                let mut count = 0;
                for entry in fs::read_dir(directory)? {
                    let entry = entry?;
                    count += 1;
                    // By the directory's descriptor, a symlink not followed.
                    if entry.metadata()?.is_dir() {
                        inside.push(entry.path());
                    }
                }
                Ok((count, inside))
            })
            .collect::<io::Result<_>>()?;
        ahead.clear();
        for (here, inside) in level {
            count += here;
            ahead.extend(inside);
        }
    }
    writeln!(io::stdout(), "{count}")
}

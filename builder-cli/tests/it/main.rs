//! Runs the `builder` command on real Dockerfiles.
//!
//! | file          | what it shows                                                              |
//! |---------------|----------------------------------------------------------------------------|
//! | `fixture`     | the base image, the command, a temporary store                             |
//! | `tree`        | an OCI layout read back, its layers applied, as a listing                  |
//! | `build_cases` | every folder of `testdata/build/`: tree, config, and a second build        |
//! | `contexts`    | tars, addresses and repositories as contexts, and as sources of ADD        |
//! | `front`       | stands in front of a registry, counts, and makes trouble                   |
//! | `shared_cache` | what one store wrote another finds; a bad cache costs time and no more     |
//! | `web`         | a web server that counts what it is asked                                  |
//! | `cache`       | an edit runs again what depends on it, and nothing else                    |
//! | `explain`     | a miss says what changed; what is forced runs, and nothing else            |
//! | `edits`       | after random edits the cached build is the uncached one, and runs no more  |
//! | `stress`      | builds, prunes and `kill -9` on one store at once: every result is right   |
//! | `prune`       | `du` adds up to what the disk says, `prune` removes what it should         |
//! | `kept`        | attestations, layers at a registry, what a cache brought: `prune` knows whose |
//! | `commands`    | every folder of `testdata/cli/`: what commands print, their help and their errors |
//! | `peers`       | tools that others wrote pull and run what is pushed, and the other way round |
//! | `exports`     | streams, metadata, annotations, several platforms                          |
//! | `emulation` | steps for another architecture, with an emulator and without               |
//! | `engines`     | Docker and Podman are sent the layers that they lack, and run what came    |
//! | `short_names` | aliases and search registries of `registries.conf`                         |
//! | `outputs`     | tools that others wrote accept what comes out                              |
//! | `container`   | where namespaces are refused, as in a default container: chroot, or no RUN |
//! | `crash`       | `kill -9` and two builds at once leave the store valid                     |
//! | `rungs`       | every way of running steps makes the same layers                           |
//! | `pushes`      | an index and an image without a tag, read back by others                   |
//! | `reproducible` | another user, directory, umask, clock, zone: the same image to the byte   |
//! | `users`       | who builds: root and an ordinary user, on each rung that `ISOLATION` names |
//! | `call`        | every folder of `testdata/call/`: answers as text and as JSON              |
//! | `check`       | remarks in every format, exit codes, mends                                 |
//! | `hostile_contexts` | contexts and Dockerfiles that are clumsy or mean                           |
//! | `found`       | a build that finds everything enters no namespaces                         |
//! | `full_disk`   | disks that are full or read-only are named, and nothing half-written stays  |
//! | `lazy`        | what no step looks at is not unpacked; forced compression reaches a base    |
//! | `differential` | every folder of `testdata/differential/`: buildah makes the same trees       |
//! | `devices`     | `--device`: what a spec says of a device is in the step, and nowhere else  |
//! | `ssh`         | a step asks an agent, and can change nothing in it                         |
//! | `orphans`     | no process, mount or temporary directory is left, however a build ends      |
//! | `passwords`   | that of an address is in nothing that is shown, kept or attested           |
//! | `hostile_images` | layers, manifests and configs that lie: refused by name, in bounded memory  |
//! | `attestations` | how an image was built and what is in it: where that goes, and what it never tells |
//! | `escape`      | what a step must not reach is refused to it                                |
//!
//! A test that needs what this machine lacks says so in one line on stderr and returns.
//! `LONG=1` adds the variants that take minutes.
//! `CASE=name` runs the build cases whose name contains it; `BLESS=1` rewrites what they expect;
//! `BUILDER=path` runs another program with the same flags.

mod astray;
mod attestations;
mod build_cases;
mod cache;
mod call;
mod check;
mod commands;
mod container;
mod contexts;
mod crash;
mod devices;
mod differential;
mod edits;
mod emulation;
mod engine;
mod engines;
mod epochs;
mod escape;
mod explain;
mod exports;
mod fixture;
mod found;
mod front;
mod frontend_args;
mod full_disk;
mod hostile_contexts;
mod hostile_images;
mod kept;
mod lazy;
mod limits;
mod orphans;
mod outputs;
mod passwords;
mod peers;
mod prune;
mod pushes;
mod reasons;
mod rebase;
mod reproducible;
mod rungs;
mod shared_cache;
mod short_names;
mod ssh;
mod steps;
mod stress;
mod swapped;
mod terminal;
mod tree;
mod users;
mod web;

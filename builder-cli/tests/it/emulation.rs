//! Other architectures: what needs an emulator is emulated or refused early, and what needs none runs as it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture::{self, Ran};
use crate::outputs::lacks;

fn context(temp: &Path, dockerfile: &str) {
    fixture::write_files(
        &temp.join("context"),
        &[("Dockerfile", dockerfile), ("a.txt", "a\n")],
    );
}

#[track_caller]
fn refused(ran: &Ran, expected: &str) {
    assert_ne!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
}

#[test]
fn a_foreign_run_is_refused_before_anything_runs() {
    let Some(base) = fixture::base("emulation/foreign") else {
        return;
    };
    let foreign = if cfg!(target_arch = "s390x") {
        "riscv64"
    } else {
        "s390x"
    };
    if Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        fixture::skip(
            "emulation/foreign",
            "a machine without an emulator for s390x",
        );
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let dockerfile = "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETARCH\n\
        RUN echo $TARGETARCH > /made\nFROM scratch\nCOPY --from=build /made /made\n";
    context(dir, dockerfile);
    let platform = format!("--platform=linux/{foreign},linux/riscv64");
    let files = dir.join("files");
    let build = |dockerfile: &str| {
        context(dir, dockerfile);
        let mut command = fixture::build(base, &dir.join("store"));
        command
            .args(["--progress=plain", "-o"])
            .arg(&files)
            .arg(&platform)
            .arg(dir.join("context"));
        fixture::run(&mut command)
    };
    build(dockerfile).ok();
    let made = fs::read_to_string(files.join(format!("linux_{foreign}/made")));
    assert_eq!(made.expect("made"), format!("{foreign}\n"));
    let ran = build(
        "FROM busybox AS first\nRUN echo first\nFROM scratch\nCOPY a.txt /\nRUN [\"/a\"]\nCOPY --from=first /x /\n",
    );
    refused(
        &ran,
        &format!("a RUN for linux/{foreign} cannot run on this machine"),
    );
    refused(&ran, "qemu-user-static");
    refused(&ran, "Dockerfile:");
    assert!(!ran.stderr.contains("first\n#"), "{}", ran.stderr);
}

/// A program for arm64 that makes the file `/made` and ends, as an ELF file.
fn arm64_program() -> Vec<u8> {
    let code: [u32; 9] = [
        0x9280_0c60, // mov x0, #-100: AT_FDCWD
        0x1000_0101, // adr x1, path
        0xd280_0822, // mov x2, #0x41: O_WRONLY | O_CREAT
        0xd280_3483, // mov x3, #0644
        0xd280_0708, // mov x8, #56: openat
        0xd400_0001, // svc #0
        0xd280_0000, // mov x0, #0
        0xd280_0ba8, // mov x8, #93: exit
        0xd400_0001, // svc #0
    ];
    const HEADERS: u64 = 120;
    const AT: u64 = 0x40_0000;
    let path = b"/made\0";
    let size = HEADERS + 4 * code.len() as u64 + path.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let (executable, aarch64) = (2_u16, 0xb7_u16);
    file.extend([executable, aarch64].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    let (entry, program_headers, sections) = (AT + HEADERS, 64_u64, 0_u64);
    file.extend(
        [entry, program_headers, sections]
            .map(u64::to_le_bytes)
            .concat(),
    );
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    let (load, read_and_execute) = (1_u32, 5_u32);
    file.extend([load, read_and_execute].map(u32::to_le_bytes).concat());
    file.extend(
        [0, AT, AT, size, size, 0x1000]
            .map(u64::to_le_bytes)
            .concat(),
    );
    file.extend(code.map(u32::to_le_bytes).concat());
    file.extend(path);
    file
}

/// Runs the rest of its arguments where `binfmt_misc` has an emulator of its own, in a user namespace; `$1` is a
/// directory for itself.
const WITH_EMULATOR: &str = r#"
own=$(readlink /proc/$$/ns/user)
go=$1/go
shift
unshare --user --mount sh -c 'until [ -e "$0" ]; do sleep 0.02; done; exec "$@"' "$go" sh -ec '
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc || exit 77
    magic="\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    mask="\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    emulator=$(command -v qemu-aarch64-static)
    printf %s ":qemu-aarch64:M::$magic:$mask:$emulator:F" > /proc/sys/fs/binfmt_misc/register || exit 77
    exec "$@"' sh "$@" &
child=$!
while [ "$(readlink /proc/$child/ns/user)" = "$own" ]; do sleep 0.02; done
echo "0 0 65536" > /proc/$child/uid_map
echo "0 0 65536" > /proc/$child/gid_map
: > "$go"
wait $child
"#;

#[test]
fn an_emulated_step_runs_and_a_native_one_beside_it() {
    let test = "emulation/qemu";
    if lacks(test, &["qemu-aarch64-static", "unshare"]) {
        return;
    }
    if !fixture::is_root() || !cfg!(target_arch = "x86_64") {
        return fixture::skip(test, "root on x86-64");
    }
    let Some(base) = fixture::base(test) else {
        return;
    };
    let temp = fixture::temp_dir();
    let dir = temp.path();
    context(
        dir,
        "FROM --platform=$BUILDPLATFORM busybox AS native\nARG TARGETARCH BUILDARCH\n\
         RUN echo $TARGETARCH on $BUILDARCH > /native\n\
         FROM scratch\nCOPY --chmod=755 arm /arm\nCOPY --from=native /native /\nRUN [\"/arm\"]\n",
    );
    fs::write(dir.join("context/arm"), arm64_program()).expect("write");
    let mut build = fixture::build(base, &dir.join("store"));
    build
        .args(["--progress=plain", "--platform=linux/arm64", "-o"])
        .arg(dir.join("out"))
        .arg(dir.join("context"));
    let mut command = Command::new("sh");
    command.args(["-ec", WITH_EMULATOR, "sh"]).arg(dir);
    command.arg(build.get_program()).args(build.get_args());
    let ran = fixture::run(command.env_remove("SOURCE_DATE_EPOCH"));
    if ran.code == Some(77) {
        return fixture::skip(test, "a binfmt_misc of a user namespace's own (Linux 6.7)");
    }
    ran.ok();
    assert!(dir.join("out/made").exists());
    let native = fs::read_to_string(dir.join("out/native")).expect("native");
    assert_eq!(native, "arm64 on amd64\n");
}

/// Every amd64 machine has the first two levels, but for those of before 2009.
#[test]
fn a_level_of_amd64_that_the_processor_has_runs() {
    let Some(base) = fixture::base("emulation/level") else {
        return;
    };
    if !cfg!(target_arch = "x86_64") {
        fixture::skip("emulation/level", "an amd64 machine");
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    context(
        dir,
        "FROM busybox\nARG TARGETVARIANT\nRUN echo $TARGETVARIANT > /made\n",
    );
    let files = dir.join("files");
    let mut command = fixture::build(base, &dir.join("store"));
    command
        .args(["--platform=linux/amd64/v2", "-o"])
        .arg(&files)
        .arg(dir.join("context"));
    fixture::run(&mut command).ok();
    assert_eq!(
        fs::read_to_string(files.join("made")).expect("made"),
        "v2\n"
    );
}

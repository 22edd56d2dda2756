//! Images that lie: crafted layers, manifests and configs.
//!
//! Each case is an image whose last layer, or whose documents, are wrong in one way; a build that must see its files
//! says what is wrong with which layer and entry, or does what the row says. Address space and time are limited, and
//! nothing is written outside the store. Layers that pass are tried on every rung (`ISOLATION` names fewer), those that are
//! refused where unpacking differs; `LONG=1` tries all on every rung, and adds a bomb of the default limit and a million
//! entries.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::{self, sha256};
use crate::users::{Who, on_every_rung};

/// What a build may have of the address space, in KiB; the program itself maps little.
const ADDRESS_SPACE_KIB: u64 = 3 << 20;

/// A block of a tar, with the fields that most cases leave alone.
fn header(name: &[u8], flag: u8, size: &[u8; 12], link: &[u8]) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000755");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..136].copy_from_slice(size);
    block[136..147].copy_from_slice(b"14000000000");
    block[156] = flag;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn octal(size: usize) -> [u8; 12] {
    let mut field = [0; 12];
    field[..11].copy_from_slice(format!("{size:011o}").as_bytes());
    field
}

/// An entry with its data, padded.
fn entry(name: &str, flag: u8, link: &str, data: &[u8]) -> Vec<u8> {
    let mut out = header(name.as_bytes(), flag, &octal(data.len()), link.as_bytes()).to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn file(name: &str) -> Vec<u8> {
    entry(name, b'0', "", b"hostile\n")
}

fn link(name: &str, target: &str) -> Vec<u8> {
    entry(name, b'2', target, b"")
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut total = rest + 1;
        while rest + total.to_string().len() != total {
            total = rest + total.to_string().len();
        }
        data.extend_from_slice(format!("{total} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    entry("pax", b'x', "", &data)
}

fn device(name: &str, flag: u8, major: u32, minor: u32) -> Vec<u8> {
    let mut block = header(name.as_bytes(), flag, &octal(0), b"");
    block[329..336].copy_from_slice(format!("{major:07o}").as_bytes());
    block[337..344].copy_from_slice(format!("{minor:07o}").as_bytes());
    seal(&mut block);
    block.to_vec()
}

fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = entries.concat();
    out.resize(out.len() + 1024, 0);
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("gzip");
    out.finish().expect("gzip")
}

/// A zstd frame: `start` as it is, then `zeros` bytes of nothing in four bytes each 128 KiB.
fn zstd_bomb(start: &[u8], zeros: u64) -> Vec<u8> {
    const BLOCK: u64 = 128 << 10;
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    let head = |last: bool, kind: u32, size: u64| {
        let word = u32::from(last) | kind << 1 | u32::try_from(size).expect("a block") << 3;
        word.to_le_bytes()[..3].to_vec()
    };
    out.extend(head(false, 0, start.len() as u64));
    out.extend_from_slice(start);
    for nth in 0..zeros / BLOCK {
        out.extend(head(nth + 1 == zeros / BLOCK, 1, BLOCK));
        out.push(0);
    }
    out
}

enum Expect {
    /// The build fails, and says all of these.
    Fails(&'static [&'static str]),
    /// This succeeds in a RUN on the image.
    Holds(&'static str),
}
use Expect::{Fails, Holds};

struct Layer {
    name: &'static str,
    /// The blob; HOST is where the host's files are.
    blob: fn(host: &str) -> Vec<u8>,
    expect: Expect,
}

const fn layer(name: &'static str, blob: fn(&str) -> Vec<u8>, expect: Expect) -> Layer {
    Layer { name, blob, expect }
}

const LAYERS: &[Layer] = &[
    layer(
        "an absolute path",
        |_| tar(&[file("/opt/absolute")]),
        Holds("test -f /opt/absolute"),
    ),
    layer(
        "`..` at the start",
        |_| tar(&[file("../../outside")]),
        Fails(&["../../outside", "`..` in a path"]),
    ),
    layer(
        "`..` inside",
        |_| tar(&[file("opt/../../outside")]),
        Fails(&["opt/../../outside", "`..` in a path"]),
    ),
    layer(
        "through an absolute link",
        |host| tar(&[link("way", host), file("way/evil")]),
        Holds("test -f /way/evil"),
    ),
    layer(
        "through a relative link",
        |host| {
            tar(&[
                link("way", &format!("../../../../../../../..{host}")),
                file("way/evil"),
            ])
        },
        Holds("test -f /way/evil"),
    ),
    layer(
        "over a link",
        |host| tar(&[link("x", &format!("{host}/config.json")), file("x")]),
        Holds("test \"$(cat /x)\" = hostile"),
    ),
    layer(
        "a hard link to a link, written over",
        |host| {
            tar(&[
                link("a", &format!("{host}/config.json")),
                entry("b", b'1', "a", b""),
                file("b"),
            ])
        },
        Holds("test \"$(cat /b)\" = hostile"),
    ),
    layer(
        "a hard link upwards",
        |_| tar(&[entry("stolen", b'1', "../../../etc/shadow", b"")]),
        Fails(&["stolen", "`..` in a path"]),
    ),
    layer(
        "a hard link to what is only on the host",
        |host| tar(&[entry("stolen", b'1', &format!("{host}/config.json"), b"")]),
        Fails(&["stolen", "does not exist"]),
    ),
    layer(
        "a hard link through a link of the image",
        |host| {
            tar(&[
                link("way", host),
                entry("stolen", b'1', "way/config.json", b""),
            ])
        },
        Fails(&["stolen", "does not exist"]),
    ),
    layer(
        "a disk and the kernel's log",
        |_| {
            tar(&[
                device("disk", b'4', 254, 0),
                device("log", b'3', 1, 11),
                device("loop", b'3', 10, 237),
            ])
        },
        Holds(
            "for d in disk log loop; do if dd if=/$d of=/dev/null bs=1 count=1 iflag=nonblock; then exit 1; fi; done",
        ),
    ),
    layer(
        "a device that would be a removal",
        |_| tar(&[device("bin", b'3', 0, 0)]),
        Holds("test -d /bin"),
    ),
    layer(
        "overlayfs' own attributes",
        |_| {
            let records: [(&str, &[u8]); 2] = [
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ];
            tar(&[pax(&records), entry("etc", b'5', "", b"")])
        },
        Holds("test -f /etc/passwd"),
    ),
    layer(
        "a whiteout of `..`",
        |_| tar(&[file("opt/.wh...")]),
        Fails(&["opt/.wh...", "a whiteout of no name"]),
    ),
    layer(
        "a whiteout of `.`",
        |_| tar(&[file(".wh..")]),
        Fails(&[".wh..", "a whiteout of no name"]),
    ),
    layer(
        "a whiteout of nothing",
        |_| tar(&[file("opt/.wh.")]),
        Fails(&["opt/.wh.", "a whiteout of no name"]),
    ),
    layer(
        "a whiteout through a link",
        |host| tar(&[link("way", host), file("way/.wh.config.json")]),
        Holds("test -L /way"),
    ),
    layer(
        "opaque marks in odd places",
        |_| {
            tar(&[
                file("opt/tree/.wh..wh..opq"),
                file("nowhere/at/all/.wh..wh..opq"),
                entry("data/.wh..wh..opq", b'5', "", b""),
            ])
        },
        Holds("test -d /opt/tree && test ! -e /opt/tree/a.txt && test ! -e /data/keep.txt"),
    ),
    layer(
        "a size of more octal digits than there is room for",
        |_| header(b"big", b'0', b"777777777777", b"").to_vec(),
        Fails(&["big"]),
    ),
    layer(
        "a size in base 256 beyond all files",
        |_| {
            let size = [
                0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ];
            header(b"big", b'0', &size, b"").to_vec()
        },
        Fails(&["big", "limit"]),
    ),
    layer(
        "a negative size",
        |_| header(b"small", b'0', &[0xff; 12], b"").to_vec(),
        Fails(&["small", "bad size"]),
    ),
    layer(
        "a size that is no number",
        |_| header(b"odd", b'0', b"12x45678901\0", b"").to_vec(),
        Fails(&["odd", "bad size"]),
    ),
    layer(
        "a PAX size in place of the header's",
        |_| tar(&[pax(&[("size", b"3")]), entry("x", b'0', "", b"hostile\n")]),
        Holds("test \"$(cat /x)\" = hos"),
    ),
    layer(
        "a PAX size beyond the archive",
        |_| tar(&[pax(&[("size", b"1000000")]), file("x")]),
        Fails(&["`x`", "ends in the middle"]),
    ),
    layer(
        "a negative PAX size",
        |_| tar(&[pax(&[("size", b"-1")]), file("x")]),
        Fails(&["`x`", "bad size"]),
    ),
    layer(
        "an extended header of a gigabyte",
        |_| header(b"pax", b'x', &octal(1 << 30), b"").to_vec(),
        Fails(&["extended header", "limit"]),
    ),
    layer(
        "many extended headers for one entry",
        |_| {
            let value = vec![b'v'; 1 << 20 >> 1];
            let mut blocks: Vec<Vec<u8>> = (0..20)
                .map(|nth| pax(&[(&format!("key{nth}"), &value)]))
                .collect();
            blocks.push(file("x"));
            gzip(&tar(&blocks))
        },
        Fails(&["extended header", "limit"]),
    ),
    layer(
        "global headers without end",
        |_| {
            let value = vec![b'v'; 1 << 20 >> 1];
            let mut blocks = Vec::new();
            for nth in 0..20 {
                let mut global = pax(&[(&format!("key{nth}"), &value)]);
                global[156] = b'g';
                let mut block: [u8; 512] = global[..512].try_into().expect("a block");
                seal(&mut block);
                global[..512].copy_from_slice(&block);
                blocks.push(global);
                blocks.push(file("x"));
            }
            gzip(&tar(&blocks))
        },
        Fails(&["extended header", "limit"]),
    ),
    layer(
        "a long name without its end",
        |_| {
            let mut out = header(b"././@LongLink", b'L', &octal(600), b"").to_vec();
            out.extend([b'n'; 512]);
            out
        },
        Fails(&["ends in the middle"]),
    ),
    layer(
        "a long name and nothing after it",
        |_| entry("././@LongLink", b'L', "", &[b'n'; 300]),
        Fails(&["ends in the middle"]),
    ),
    layer(
        "a NUL in a name",
        |_| tar(&[pax(&[("path", b"a\0b")]), file("x")]),
        Fails(&["a\\x00b", "NUL"]),
    ),
    layer(
        "control characters in a name",
        |_| tar(&[pax(&[("path", b"\x1b[31m/../x")]), file("x")]),
        Fails(&["\\x1b[31m/../x", "`..` in a path"]),
    ),
    layer(
        "a sparse map that leaves the file",
        |_| {
            let records: [(&str, &[u8]); 2] =
                [("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"5,100")];
            tar(&[pax(&records), file("holes")])
        },
        Fails(&["holes", "bad sparse map"]),
    ),
    layer(
        "a sparse map of more than is stored",
        |_| {
            let records: [(&str, &[u8]); 2] = [
                ("GNU.sparse.size", b"100000"),
                ("GNU.sparse.map", b"0,50000"),
            ];
            tar(&[pax(&records), file("holes")])
        },
        Fails(&["holes", "contradict"]),
    ),
    layer(
        "a sparse file of an exabyte",
        |_| {
            let records: [(&str, &[u8]); 2] = [
                ("GNU.sparse.size", b"1152921504606846976"),
                ("GNU.sparse.map", b"0,8"),
            ];
            tar(&[pax(&records), file("holes")])
        },
        Fails(&["holes", "limit"]),
    ),
    layer(
        "a map of an old sparse file without end",
        |_| {
            let mut first = header(b"holes", b'S', &octal(0), b"");
            first[386..397].copy_from_slice(b"00000000000");
            first[398..409].copy_from_slice(b"00000000000");
            first[482] = 1;
            first[483..494].copy_from_slice(b"77777777777");
            seal(&mut first);
            let mut more = [0u8; 512];
            for pair in more[..504].chunks_exact_mut(12) {
                pair.copy_from_slice(b"00000000000\0");
            }
            more[504] = 1;
            let mut out = first.to_vec();
            out.extend(more.repeat(100_000));
            gzip(&out)
        },
        Fails(&["holes", "bad sparse map"]),
    ),
    layer(
        "a wrong checksum",
        |_| {
            let mut out = tar(&[file("sum")]);
            out[0] = b'S';
            out
        },
        Fails(&["Sum", "checksum"]),
    ),
    layer("no tar", |_| vec![b'?'; 4096], Fails(&["checksum"])),
    layer(
        "an unknown kind",
        |_| tar(&[entry("kind", b'Q', "", b"")]),
        Fails(&["kind", "unknown kind of entry"]),
    ),
    layer(
        "a header cut short",
        |_| file("cut")[..300].to_vec(),
        Fails(&["ends in the middle"]),
    ),
    layer(
        "data cut short",
        |_| entry("cut", b'0', "", &[b'x'; 5000])[..3000].to_vec(),
        Fails(&["`cut`", "ends in the middle"]),
    ),
    layer(
        "gzip cut short",
        |_| {
            let whole = gzip(&tar(&[entry(
                "cut",
                b'0',
                "",
                &(0..200_000u32)
                    .flat_map(u32::to_le_bytes)
                    .collect::<Vec<u8>>(),
            )]));
            whole[..whole.len() / 2].to_vec()
        },
        Fails(&["read the layer"]),
    ),
    layer(
        "garbage after gzip",
        |_| [gzip(&tar(&[file("opt/x")])), vec![b'g'; 100]].concat(),
        Fails(&["gzip"]),
    ),
    layer(
        "a zstd window of two gigabytes",
        |_| vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00],
        Fails(&["memory"]),
    ),
    layer(
        "six gigabytes of nothing in one file",
        |_| {
            let mut size = [0; 12];
            size[..11].copy_from_slice(b"60000000000");
            zstd_bomb(&header(b"bomb", b'0', &size, b""), 6 << 30)
        },
        Fails(&["bomb", "limit of 67108864", "--max-layer-size"]),
    ),
    layer(
        "nothing after the archive, without end",
        |_| zstd_bomb(&tar(&[file("opt/x")]), 128 << 20),
        Fails(&["limit of 67108864", "--max-layer-size"]),
    ),
    layer(
        "many files that are small each",
        |_| {
            let block = entry("same", b'0', "", &vec![0; 32 << 20]);
            gzip(&tar(&vec![block; 9]))
        },
        Fails(&["same", "limit of 67108864", "--max-layer-size"]),
    ),
    layer(
        "a path of nearly a megabyte",
        |_| {
            tar(&[
                pax(&[("path", "long/".repeat(200_000).as_bytes())]),
                file("x"),
            ])
        },
        Fails(&["long/long/", "too long"]),
    ),
    layer(
        "a name of a thousand bytes",
        |_| tar(&[pax(&[("path", &[b'n'; 1000])]), file("x")]),
        Fails(&["nnnn", "too long"]),
    ),
    layer(
        "two thousand directories, one in the other",
        |_| {
            tar(&[
                pax(&[("path", "d/".repeat(2000).as_bytes())]),
                entry("x", b'5', "", b""),
            ])
        },
        Holds("p=; for i in 1 2 3 4 5; do p=$p/d/d/d/d; done; test -d $p"),
    ),
    layer(
        "ten thousand directories, one in the other",
        |_| {
            tar(&[
                pax(&[("path", "d/".repeat(10_000).as_bytes())]),
                entry("x", b'5', "", b""),
            ])
        },
        Fails(&["d/d/d/d/", "too long"]),
    ),
    layer(
        "twenty thousand entries",
        |_| {
            let all: Vec<Vec<u8>> = (0..20_000)
                .map(|nth| entry(&format!("many/{}/{nth}", nth % 50), b'0', "", b""))
                .collect();
            gzip(&tar(&all))
        },
        Holds("test $(find /many -type f | wc -l) = 20000"),
    ),
];

/// An OCI layout of one image: the base's layer and a crafted one.
struct Crafted {
    directory: PathBuf,
    config: Value,
    manifest: Value,
}

impl Crafted {
    fn new(directory: PathBuf, base: &Path, blob: &[u8], diff_id: Option<String>) -> Self {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("mkdir");
        fs::write(
            directory.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .expect("write");
        let read = |path: PathBuf| -> Value {
            serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
        };
        let of = |digest: &Value| {
            let hex = digest.as_str().expect("a digest")["sha256:".len()..].to_owned();
            base.join("blobs/sha256").join(hex)
        };
        let index = read(base.join("index.json"));
        let mut manifest = read(of(&index["manifests"][0]["digest"]));
        let mut config = read(of(&manifest["config"]["digest"]));
        let first = of(&manifest["layers"][0]["digest"]);
        fs::copy(&first, blobs.join(first.file_name().expect("a name"))).expect("copy");
        let digest = sha256(blob);
        fs::write(blobs.join(&digest), blob).expect("write");
        let diff_id = diff_id.unwrap_or(digest.clone());
        config["rootfs"]["diff_ids"]
            .as_array_mut()
            .expect("a list")
            .push(json!(format!("sha256:{diff_id}")));
        manifest["layers"]
            .as_array_mut()
            .expect("a list")
            .push(json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": format!("sha256:{digest}"),
                "size": blob.len(),
            }));
        Crafted {
            directory,
            config,
            manifest,
        }
    }

    fn put(&self, bytes: &[u8]) -> (String, usize) {
        let hex = sha256(bytes);
        fs::write(self.directory.join("blobs/sha256").join(&hex), bytes).expect("write");
        (format!("sha256:{hex}"), bytes.len())
    }

    fn finish(self, change: fn(&mut Value)) -> PathBuf {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        let config = self.config.to_string().replace("\"DEEP\"", &deep);
        let (digest, size) = self.put(config.as_bytes());
        let mut manifest = self.manifest.clone();
        if manifest["config"]["digest"].is_string() {
            manifest["config"]["digest"] = json!(digest);
            manifest["config"]["size"] = json!(size);
        }
        change(&mut manifest);
        let (digest, size) = self.put(manifest.to_string().as_bytes());
        let entry = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest, "size": size,
            "annotations": {"org.opencontainers.image.ref.name": "latest"},
        });
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(self.directory.join("index.json"), index.to_string()).expect("write");
        self.directory
    }
}

/// The digest of what the blob holds, when it can be had without filling memory.
fn diff_id(blob: &[u8]) -> Option<String> {
    let mut plain = Vec::new();
    match blob {
        [0x1f, 0x8b, ..] => {
            let mut decoder = flate2::bufread::GzDecoder::new(blob);
            std::io::Read::read_to_end(&mut decoder, &mut plain).ok()?;
            Some(sha256(&plain))
        }
        _ => None,
    }
}

/// The command with a limit of its address space, and an end in case it hangs.
fn limited(command: &Command) -> Command {
    let mut out = Command::new("sh");
    out.arg("-c")
        .arg(format!(
            "ulimit -v {ADDRESS_SPACE_KIB}; exec timeout -s KILL 120 \"$@\""
        ))
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => out.env(key, value),
            None => out.env_remove(key),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        out.current_dir(directory);
    }
    out
}

fn host_directory(temp: &Path) -> PathBuf {
    let host = temp.join("host");
    fs::create_dir(&host).expect("mkdir");
    fixture::set_mode(&host, 0o777);
    fs::write(host.join("config.json"), "of the host\n").expect("write");
    host
}

fn check_host(host: &Path, name: &str) {
    let names: Vec<_> = fs::read_dir(host)
        .expect("the host's directory")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    assert_eq!(names, ["config.json"], "{name}");
    let text = fs::read_to_string(host.join("config.json")).expect("read");
    assert_eq!(text, "of the host\n", "{name}");
}

/// Builds a RUN on an image whose last layer is `blob`; says how long it took and how it ended.
fn run_on(temp: &Path, base: &Path, name: &str, blob: &[u8], script: &str) -> fixture::Ran {
    let directory = temp.join(name);
    let image = Crafted::new(directory, base, blob, diff_id(blob)).finish(|_| {});
    let context = temp.join(format!("{name}-context"));
    fixture::write_files(
        &context,
        &[("Dockerfile", &format!("FROM hostile\nRUN {script}\n"))],
    );
    let mut command = fixture::build(base, &temp.join("store"));
    command
        .arg("--build-context")
        .arg(format!("hostile=oci-layout://{}:latest", image.display()))
        .arg(&context);
    fixture::run(&mut limited(&command))
}

#[test]
fn the_default_limit_holds_and_a_million_entries_pass() {
    let Some(base) = fixture::base("hostile_images") else {
        return;
    };
    if std::env::var_os("LONG").is_none() {
        return fixture::skip("a million entries, a bomb of the default limit", "LONG=1");
    }
    let temp = fixture::temp_dir();
    let bomb = zstd_bomb(&tar(&[file("opt/x")]), 5 << 30);
    let ran = run_on(temp.path(), base, "bomb", &bomb, "true");
    assert!(ran.stderr.contains("limit of 4294967296"), "{}", ran.stderr);
    let many: Vec<Vec<u8>> = (0..1_000_000)
        .map(|nth| entry(&format!("many/{}/{nth}", nth % 1000), b'0', "", b""))
        .collect();
    let script = "test $(find /many -type f | wc -l) = 1000000";
    run_on(temp.path(), base, "many", &gzip(&tar(&many)), script).ok();
}

/// What the documents of an image say that is not so; `None`: the image is good all the same.
type Lie = (
    &'static str,
    fn(&mut Crafted),
    fn(&mut Value),
    Option<&'static [&'static str]>,
);

const LIES: &[Lie] = &[
    (
        "a wrong diff_id",
        |image| image.config["rootfs"]["diff_ids"][1] = json!(format!("sha256:{}", "0".repeat(64))),
        |_| {},
        Some(&["layer sha256:", "0000000000000000", "was expected"]),
    ),
    (
        "a diff_id too few",
        |image| {
            image.config["rootfs"]["diff_ids"]
                .as_array_mut()
                .expect("a list")
                .pop();
        },
        |_| {},
        Some(&["contradicts itself", "1 diff_ids"]),
    ),
    (
        "a layer of another size",
        |_| {},
        |manifest| manifest["layers"][1]["size"] = json!(77),
        Some(&["77"]),
    ),
    (
        "a layer of a negative size",
        |_| {},
        |manifest| manifest["layers"][1]["size"] = json!(-1),
        Some(&["not a valid manifest", "-1"]),
    ),
    (
        "a layer that is not there",
        |_| {},
        |manifest| manifest["layers"][1]["digest"] = json!(format!("sha256:{}", "1".repeat(64))),
        Some(&["1111111111111111"]),
    ),
    (
        "a layer whose digest is a path",
        |_| {},
        |manifest| manifest["layers"][1]["digest"] = json!("sha256:../../../../etc/passwd"),
        Some(&["digest"]),
    ),
    (
        "a layer of another compression than it says",
        |_| {},
        |manifest| {
            manifest["layers"][1]["mediaType"] =
                json!("application/vnd.oci.image.layer.v1.tar+zstd");
        },
        None,
    ),
    (
        "a layer of an unknown type",
        |_| {},
        |manifest| manifest["layers"][1]["mediaType"] = json!("application/x-hostile"),
        None,
    ),
    (
        "a config that is no JSON",
        |image| image.config = json!("text"),
        |_| {},
        Some(&["config"]),
    ),
    (
        "a config of a hundred megabytes",
        |image| image.config["padding"] = json!("x".repeat(100 << 20)),
        |_| {},
        Some(&["bytes, more than"]),
    ),
    (
        "a manifest of a hundred megabytes",
        |_| {},
        |manifest| manifest["padding"] = json!("x".repeat(100 << 20)),
        Some(&["bytes, more than"]),
    ),
    (
        "a config nested ten thousand deep",
        |image| {
            // Text that a recursive reader would follow into the end of its stack.
            image.config["deep"] = json!("DEEP");
        },
        |_| {},
        Some(&["recursion limit"]),
    ),
    (
        "a variable without a name",
        |image| image.config["config"]["Env"] = json!(["=x", "PATH=/bin", "NUL=\0"]),
        |_| {},
        Some(&["NUL"]),
    ),
    (
        "a working directory that leads out",
        |image| image.config["config"]["WorkingDir"] = json!("../../../../tmp"),
        |_| {},
        None,
    ),
    (
        "a user with a line feed",
        |image| image.config["config"]["User"] = json!("root\nx"),
        |_| {},
        Some(&["is not a user"]),
    ),
    (
        "control characters in labels and triggers",
        |image| {
            image.config["config"]["OnBuild"] = json!(["RUNN \u{1b}[31mred"]);
        },
        |_| {},
        Some(&["RUNN"]),
    ),
    (
        "a trigger that names a trigger",
        |image| image.config["config"]["OnBuild"] = json!(["ONBUILD RUN true"]),
        |_| {},
        None,
    ),
];

#[test]
fn documents_that_lie_are_refused_by_name() {
    let Some(base) = fixture::base("hostile_images") else {
        return;
    };
    let temp = fixture::temp_dir();
    let wanted = std::env::var("CASE").unwrap_or_default();
    let context = temp.path().join("context");
    fixture::write_files(&context, &[("Dockerfile", "FROM hostile\nRUN true\n")]);
    let mut wrong = Vec::new();
    for (nth, (name, before, after, refusal)) in LIES.iter().enumerate() {
        if !name.contains(&wanted) {
            continue;
        }
        let directory = temp.path().join(format!("image{nth}"));
        let blob = tar(&[file("opt/x")]);
        let mut image = Crafted::new(directory, base, &blob, None);
        before(&mut image);
        let image = image.finish(*after);
        let mut command = fixture::build(base, &temp.path().join("store"));
        command
            .arg("--build-context")
            .arg(format!("hostile=oci-layout://{}:latest", image.display()))
            .arg(&context);
        let ran = fixture::run(&mut limited(&command));
        let right = match refusal {
            None => ran.code == Some(0),
            Some(words) => {
                ran.code == Some(1)
                    && words.iter().all(|word| ran.stderr.contains(word))
                    && ran.stderr.len() < 4000
                    && !ran.stderr.contains('\x1b')
            }
        };
        if !right {
            let text: String = ran.stderr.chars().take(1500).collect();
            wrong.push(format!("── {name} ── code {:?}\n{text}", ran.code));
        }
        fs::remove_dir_all(image).expect("remove");
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn layers_that_lie_are_refused_by_name() {
    let Some(base) = fixture::base("hostile_images") else {
        return;
    };
    let temp = fixture::temp_dir();
    let host = host_directory(temp.path());
    let place = host.display().to_string();
    let wanted = std::env::var("CASE").unwrap_or_default();
    let mut images = Vec::new();
    for (nth, case) in LAYERS
        .iter()
        .enumerate()
        .filter(|(_, case)| case.name.contains(&wanted))
    {
        let blob = (case.blob)(&place);
        let directory = temp.path().join(format!("image{nth}"));
        let image = Crafted::new(directory, base, &blob, diff_id(&blob)).finish(|_| {});
        images.push((case, image, sha256(&blob)));
    }
    let people = on_every_rung("hostile_images", temp.path());
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = people
            .iter()
            .map(|who| scope.spawn(|| try_layers(who, base, &images, &host)))
            .collect();
        all.into_iter()
            .flat_map(|one| one.join().expect("no panic"))
            .collect()
    });
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// A case, its image, and the digest of its last layer.
type Made<'a> = (&'a Layer, PathBuf, String);

/// Builds on each image and says what went otherwise than it should.
fn try_layers(who: &Who, base: &Path, images: &[Made<'_>], host: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    let context = who.home.join("context");
    fs::create_dir(&context).expect("mkdir");
    let long = std::env::var_os("LONG").is_some();
    for (case, image, digest) in images {
        // a layer is unpacked for a copy as it is for an overlay
        if !long && !who.is_on_overlays() && matches!(case.expect, Fails(_)) {
            continue;
        }
        let script = match case.expect {
            Holds(script) => script,
            Fails(_) => "true",
        };
        let text = format!("FROM hostile\nRUN {script}\n");
        fs::write(context.join("Dockerfile"), text).expect("write");
        let mut command = who.build(base);
        command
            .arg("--max-layer-size=64m")
            .arg("--build-context")
            .arg(format!("hostile=oci-layout://{}:latest", image.display()))
            .arg(&context);
        let ran = fixture::run(&mut limited(&command));
        let right = match case.expect {
            Holds(_) => ran.code == Some(0),
            Fails(words) => {
                ran.code == Some(1)
                    && words.iter().all(|word| ran.stderr.contains(word))
                    && ran.stderr.contains(digest.as_str())
                    && ran.stderr.len() < 4000
                    && !ran.stderr.contains('\x1b')
            }
        };
        if !right {
            let text: String = ran.stderr.chars().take(1500).collect();
            wrong.push(format!(
                "── {} ({}) ── code {:?}\n{text}",
                case.name, who.name, ran.code
            ));
        }
        check_host(host, case.name);
    }
    // What was half unpacked went with its process.
    let left: Vec<_> = fs::read_dir(who.store().join("tmp"))
        .expect("tmp")
        .collect();
    if !left.is_empty() {
        wrong.push(format!("{}: {left:?}", who.name));
    }
    wrong
}

//! Each type and key, what is taken and what is refused.

use super::*;

fn around(stdout_is_terminal: bool) -> Surroundings {
    Surroundings {
        stdout_is_terminal,
        engine: Ok(Engine::Unix("/run/d.sock".into())),
        has_epoch: false,
    }
}

#[test]
fn outputs() {
    let dest = || PathBuf::from("x");
    let archive = |compression| Output::OciArchive {
        dest: dest().into(),
        image: ImageOptions::compressed(compression),
    };
    let docker = ImageOptions::compressed(Compression::None);
    let local = |split| Output::Local {
        dest: dest(),
        split,
    };
    for (text, expected) in [
        ("x", local(Split::Several)),
        ("type=local,dest=x,mode=copy", local(Split::Several)),
        (
            "type=local,dest=x,platform-split=true",
            local(Split::Always),
        ),
        (
            "type=tar,dest=x,platform-split=false",
            Output::Tar {
                dest: dest().into(),
                split: Split::Never,
            },
        ),
        (
            "type=cacheonly",
            Output::Store {
                names: Vec::new(),
                referrers: false,
            },
        ),
        (
            "type=image,oci-artifact=true",
            Output::Store {
                names: Vec::new(),
                referrers: true,
            },
        ),
        (
            "type=image,name=a,push=true,push-by-digest=true,name-canonical=true,unpack=0,store=true",
            Output::Registry {
                image: ImageOptions {
                    names: Some(vec!["a".parse().expect("name")]),
                    by_digest: true,
                    ..ImageOptions::compressed(Compression::Gzip(5))
                },
            },
        ),
        ("type=oci,dest=x", archive(Compression::Gzip(5))),
        ("dest=x,TYPE=oci,tar=1", archive(Compression::Gzip(5))),
        (
            "type=oci,dest=x,compression-level=0",
            archive(Compression::Gzip(0)),
        ),
        (
            "type=oci,dest=x,compression-level=6",
            archive(Compression::Gzip(6)),
        ),
        (
            "type=oci,dest=x,compression=zstd,compression-level=9",
            archive(Compression::Zstd(9)),
        ),
        (
            "type=oci,dest=x,compression=uncompressed",
            archive(Compression::None),
        ),
        (
            "type=oci,dest=x,compression-level=1,rewrite-timestamp=false,oci-mediatypes=true",
            archive(Compression::Gzip(1)),
        ),
        (
            "type=oci,\"dest=x,y\",tar=false",
            Output::OciDirectory {
                dest: "x,y".into(),
                image: ImageOptions::compressed(Compression::Gzip(5)),
            },
        ),
        ("type=registry", registry()),
        (
            "type=image,\"name=a.io/b:1,c\",push=true,compression=zstd",
            Output::Registry {
                image: ImageOptions {
                    names: Some(vec![
                        "a.io/b:1".parse().expect("name"),
                        "c".parse().expect("name"),
                    ]),
                    ..ImageOptions::compressed(Compression::Zstd(3))
                },
            },
        ),
        (
            "type=docker,dest=x",
            Output::DockerArchive {
                dest: dest().into(),
                image: docker.clone(),
            },
        ),
        (
            "type=docker",
            Output::Engine {
                at: Engine::Unix("/run/d.sock".into()),
                image: docker,
            },
        ),
        ("type=registry", registry()),
        ("type=image,push=true", registry()),
        (
            "type=registry,force-compression=true",
            Output::Registry {
                image: ImageOptions {
                    force_compression: true,
                    ..ImageOptions::compressed(Compression::Gzip(5))
                },
            },
        ),
        (
            "type=registry,name=a:1,compression=zstd",
            Output::Registry {
                image: ImageOptions {
                    names: Some(vec!["a:1".parse().expect("a")]),
                    ..ImageOptions::compressed(Compression::Zstd(3))
                },
            },
        ),
        (
            "type=image,\"name=a:1,b:2\",push=false",
            Output::Store {
                names: vec!["a:1".parse().expect("a"), "b:2".parse().expect("b")],
                referrers: false,
            },
        ),
    ] {
        match parse(text, &around(true)) {
            Ok(output) => assert_eq!(output, expected, "{text}"),
            Err(failure) => panic!("{text}: {failure:?}"),
        }
    }
    for text in [
        "-",
        "type=tar,dest=-",
        "type=oci,dest=-",
        "type=docker,dest=-",
    ] {
        assert!(parse(text, &around(false)).is_ok(), "{text}");
    }
}

#[test]
fn annotations_name_their_level() {
    for (key, expected) in [
        ("annotation.a.b", Annotation::at("manifest", "a.b", "v")),
        ("annotation-index.a", Annotation::at("index", "a", "v")),
        (
            "annotation-manifest-descriptor[linux/arm64].a.b",
            Annotation::at("manifest-descriptor[linux/arm64]", "a.b", "v"),
        ),
        (
            "annotation[linux/arm64].a",
            Annotation::at("manifest[linux/arm64]", "a", "v"),
        ),
    ] {
        let output = parse(&format!("type=oci,dest=x,{key}=v"), &around(true));
        let found = output.ok().and_then(|it| match it {
            Output::OciArchive { image, .. } => image.annotations.into_iter().next(),
            _ => None,
        });
        assert_eq!(found, expected.ok(), "{key}");
    }
}

#[test]
fn what_is_refused_is_named() {
    for (text, expected) in [
        ("", "a directory"),
        ("-", "a terminal"),
        ("type=tar,dest=-", "a terminal"),
        ("type=local,dest=-", "directory cannot"),
        ("type=oci", "needs dest"),
        ("dest=a,tar=true", "is missing"),
        ("type=registry,dest=x", "neither push=false"),
        ("type=registry,push=false", "neither push=false"),
        ("type=oci,dest=x,push=true", "not pushed"),
        ("type=image,dest=x", "type=oci"),
        ("type=local,dest=x,oci-artifact=true", "holds no image"),
        ("type=local,dest=x,name=a", "has no name"),
        ("type=oci,dest=x,name=A", "name=A"),
        ("type=oci,dest=x,oci-mediatypes=false", "type=docker"),
        (
            "type=registry,oci-mediatypes=false,compression=zstd,force-compression=true",
            "have no zstd: use compression=gzip",
        ),
        (
            "type=image,name=a.io/b:1,push=true,oci-mediatypes=false,compression=zstd",
            "have no zstd",
        ),
        (
            "type=oci,dest=x,rewrite-timestamp=true",
            "SOURCE_DATE_EPOCH",
        ),
        (
            "type=oci,dest=x,annotation-layer.a=b",
            "`layer` is no level",
        ),
        (
            "type=local,dest=x,mode=delete",
            "mode=delete is not supported: what else",
        ),
        ("type=image,unpack=true", "unpacked when"),
        ("type=image,store=false", "in the store"),
        ("type=image,store=maybe", "neither true nor false"),
        ("type=image,name-canonical=false", "NAME@DIGEST"),
        ("type=registry,registry.insecure=true", "insecure = true"),
        ("type=registry,prefer-nondist-layers=true", "distributed"),
        ("type=image,dangling-name-prefix=x", "give name="),
        ("type=docker,context=x", "DOCKER_HOST"),
        ("type=image,push-by-digest=true", "not pushed"),
        (
            "type=oci,dest=x,platform-split=true",
            "type=local and type=tar",
        ),
        ("type=cacheonly,dest=x", "no dest"),
        ("type=cacheonly,name=x", "no name"),
        ("type=vhd,dest=x", "unknown type `vhd`"),
        ("type=oci,dest=x,colour=red", "unknown key `colour`"),
        ("type=oci,dest=x,tar=maybe", "neither true nor false"),
        ("type=oci,dest=x,compression=xz", "unknown compression `xz`"),
        ("type=oci,dest=x,compression-level=13", "0 to 12"),
        (
            "type=oci,dest=x,compression=uncompressed,compression-level=1",
            "for gzip and zstd",
        ),
        ("type=docker,dest=x,compression=zstd", "no zstd"),
        ("type=docker,dest=x,tar=false", "for type=oci"),
        ("type=local,dest=x,compression=gzip", "not compressed"),
        ("type=local,dest=x,force-compression=true", "not compressed"),
        (
            "type=oci,dest=x,force-compression=much",
            "neither true nor false",
        ),
        ("type=oci,dest", "KEY=VALUE"),
    ] {
        match parse(text, &around(true)) {
            Err(Failure::Usage(message)) => {
                assert!(message.contains(expected), "{text}: {message}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

//! A build in somebody else's program, whatever runs its futures.

use std::path::Path;
use std::sync::Arc;

use builder_core::build::{Dest, Output, Split};
use builder_core::image::Reference;
use builder_core::images::{ArchiveFormat, CopyOptions, Images, Location, PushOptions};
use builder_core::progress::{EventSink, Null};
use builder_core::registry::{Client, ClientOptions};
use builder_core::{Build, Context, Image};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

fn build(dir: &Path, store: &str) -> Build {
    Build::new(Context::dir(dir.join("context")))
        .store(dir.join(format!("store-{store}")))
        .source_date_epoch(1)
        .output(Output::Tar {
            dest: Dest::File(dir.join(format!("{store}.tar"))),
            split: Split::default(),
        })
}

async fn run(build: Build) -> Image {
    build.run(Arc::new(Null)).await.expect("an image")
}

/// All that a program with images and builds awaits.
async fn all(images: Images, build: Build, name: Reference, place: Location) {
    let events: Arc<dyn EventSink> = Arc::new(Null);
    let (client, copied) = (
        Client::new(ClientOptions::default()),
        CopyOptions::default(),
    );
    drop(images.pull(&name, None, &events).await);
    drop(images.pull_all_platforms(&name, &events).await);
    drop(images.push(&name, &PushOptions::default(), &events).await);
    drop(images.copy(&place, &place, &copied, &client, &events).await);
    drop(images.complete(&[], ArchiveFormat::Oci, &events).await);
    drop(images.remote_tags(&name).await);
    drop(build.plan().await);
    drop(build.outline().await);
    drop(build.clone().look(events.clone()).await);
    drop(build.run(events).await);
}

#[test]
fn what_is_awaited_may_be_spawned() {
    let spawns = |images, build, name, place| tokio::spawn(all(images, build, name, place));
    // To compile is the test.
    let _ = spawns;
}

#[test]
fn any_runtime_makes_the_same_image() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    for sub in 0..20 {
        let sub = dir.join("context").join(sub.to_string());
        std::fs::create_dir_all(&sub).expect("a directory");
        std::fs::write(sub.join("file"), "text").expect("a file");
    }
    std::fs::write(
        dir.join("context/Dockerfile"),
        "FROM scratch\nCOPY . /a\nCOPY 1 /b\n",
    )
    .expect("a file");
    let one_thread = || {
        let made = Builder::new_current_thread().enable_all().build();
        made.expect("a runtime")
    };
    let many = || Runtime::new().expect("a runtime");
    // Each from an empty store, then once more from what it kept.
    for round in 0..2 {
        let waited_for = many().block_on(run(build(dir, "a")));
        let spawned = many().block_on(async { tokio::spawn(run(build(dir, "b"))).await });
        let on_one_thread = one_thread().block_on(run(build(dir, "c")));
        let local = many().block_on(LocalSet::new().run_until(run(build(dir, "d"))));
        let local_task = one_thread().block_on(
            LocalSet::new()
                .run_until(async { tokio::task::spawn_local(run(build(dir, "e"))).await }),
        );
        let (one, other) =
            many().block_on(async { tokio::join!(run(build(dir, "f")), run(build(dir, "g"))) });
        let wanted = waited_for.stored.manifest.digest;
        for image in [
            spawned.expect("no panic"),
            on_one_thread,
            local,
            local_task.expect("no panic"),
            one,
            other,
        ] {
            assert_eq!(image.stored.manifest.digest, wanted, "round {round}");
        }
    }
}

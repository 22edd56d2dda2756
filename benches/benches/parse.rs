//! What a Dockerfile costs to read and to plan, at 100, 1,000 and 10,000 instructions: the instructions a second stay the
//! same. A stage has ten of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;

use builder_core::digest::{DiffId, Digest};
use builder_core::dockerfile::ast::Dockerfile;
use builder_core::dockerfile::parse;
use builder_core::image::{ImageConfig, Platform};
use builder_core::plan::{Base, BaseInfo, Plan, PlanOptions, Step, step};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const INSTRUCTIONS: [u64; 3] = [100, 1_000, 10_000];

/// Each stage copies from the one before, so that the last needs them all.
fn dockerfile(instructions: u64) -> String {
    let mut out = String::new();
    for stage in 0..instructions / 10 {
        let from = match stage {
            0 => "COPY --chown=1000:1000 src/ lib/ ./".to_owned(),
            _ => format!("COPY --from=stage{} /out /in", stage - 1),
        };
        write!(
            out,
            "FROM registry.example/team/base{}:1.{stage} AS stage{stage}\n\
             ARG VERSION=1.{stage}\n\
             ENV APP_VERSION=$VERSION PATH=/opt/app/bin:$PATH \\\n    LANG=C.UTF-8\n\
             WORKDIR /src/${{APP_VERSION}}\n\
             {from}\n\
             RUN --mount=type=cache,target=/root/.cache,id=cache{stage} \\\n    make -j2 \\\n    # of one's own\n    \
             && make install DESTDIR=/out\n\
             RUN [\"/bin/sh\", \"-c\", \"echo ${{APP_VERSION:-none}} > /out/version\"]\n\
             COPY <<EOF /out/settings\nversion=$APP_VERSION\nstage={stage}\nEOF\n\
             LABEL org.opencontainers.image.version=\"$APP_VERSION\" stage={stage}\n\
             CMD [\"/opt/app/bin/app\", \"--serve\"]\n",
            stage % 10,
        )
        .expect("a string takes all");
    }
    out
}

fn base(name: &Base) -> BaseInfo {
    let mut config = ImageConfig::scratch(&Platform::new("linux", "amd64", None));
    config.diff_ids = vec![DiffId(Digest::of(b"the base's layer"))];
    BaseInfo {
        digest: Digest::of(name.describe().as_bytes()),
        config,
        layers: Vec::new(),
        pinned: format!("{}@sha256:…", name.describe()),
    }
}

fn plan(file: &Dockerfile, options: &PlanOptions) -> Plan {
    let mut known = BTreeMap::new();
    loop {
        match step(file, options, &known).expect("a plan") {
            Step::Ready(plan) => return *plan,
            Step::NeedBases(missing) => {
                for (name, _) in missing {
                    let info = base(&name);
                    known.insert(name, info);
                }
            }
        }
    }
}

fn parsing(c: &mut Criterion) {
    let platform = Platform::new("linux", "amd64", None);
    let options = PlanOptions {
        platform: platform.clone(),
        build_platform: platform,
        ..PlanOptions::default()
    };
    let mut group = c.benchmark_group("parse");
    group.sample_size(10);
    for instructions in INSTRUCTIONS {
        let text = dockerfile(instructions);
        group.throughput(Throughput::Elements(instructions));
        group.bench_function(format!("parse {instructions} instructions"), |b| {
            b.iter(|| parse(black_box(&text)).expect("it parses"));
        });
        group.bench_function(format!("parse and plan {instructions} instructions"), |b| {
            b.iter(|| {
                let file = parse(black_box(&text)).expect("it parses");
                plan(&file, &options)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parsing);
criterion_main!(benches);

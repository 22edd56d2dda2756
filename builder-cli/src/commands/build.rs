//! `builder build`.
//!
//! All that can be wrong with the command line is found first; then the process enters its namespaces, while it has
//! one thread; then threads exist.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use builder_core::attest::provenance::Options as InMetadata;
use builder_core::image::Reference;
use builder_core::progress::Event;
use builder_core::sandbox::Isolation;
use builder_core::solve::SolveErrorKind;
use builder_core::{Build, BuildError, Image, Output, sandbox};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::call::{self, Call, Method};
use super::inputs::request;
use crate::args::{BuildArgs, Format, OnError, Progress};
use crate::environment::Environment;
use crate::exit::{Failure, INTERRUPTED};
use crate::render::{self, Mode, Reporter};
use crate::{caches, outputs, secrets, ssh};

pub(super) fn run(args: BuildArgs, environment: &Environment) -> Result<(), Failure> {
    if let Some(call) = asked(&args)? {
        return call::run(call, &request(args.inputs, environment)?);
    }
    let mode = mode(args.quiet, args.progress, environment);
    let (quiet, iidfile) = (args.quiet, args.iidfile.clone());
    if let Some(file) = &iidfile
        && std::fs::symlink_metadata(file).is_ok_and(|it| it.is_file())
        && let Err(error) = std::fs::remove_file(file)
    {
        // The id of an earlier build is not to be taken for this one's, should this one fail.
        let file = file.display();
        return Err(Failure::Io(format!("cannot replace {file}: {error}")));
    }
    for (flag, file) in [
        ("--iidfile", &args.iidfile),
        ("--metadata-file", &args.metadata_file),
    ] {
        if let Some(file) = file {
            writable(flag, file)?;
        }
    }
    let explain = args.explain;
    let on_error = args.on_error;
    let isolation = args.isolation;
    let metadata_file = args.metadata_file.clone();
    let around = outputs::Surroundings {
        stdout_is_terminal: std::io::stdout().is_terminal(),
        engine: environment.engine(),
        has_epoch: environment.source_date_epoch()?.is_some(),
    };
    let outputs = args.output.iter().map(|text| outputs::parse(text, &around));
    let mut outputs: Vec<Output> = outputs.collect::<Result<_, _>>()?;
    if args.push {
        outputs.push(outputs::registry());
    }
    if args.load {
        outputs.push(outputs::load(&around)?);
    }
    let streams = outputs.iter().filter(|it| it.is_stream()).count();
    if streams > 1 || streams == 1 && quiet {
        return Err(Failure::usage(
            "standard output can take one thing: one archive, or the id of --quiet",
        ));
    }
    let asked = args.attest.read()?;
    let in_metadata = asked.in_metadata(environment)?;
    let id = invocation();
    let build = requested(args, environment)?;
    let mut build = asked.apply(build).invocation(&id);
    let mut dests: Vec<String> = Vec::new();
    for output in outputs {
        dests.push(output.place());
        build = build.output(output);
    }
    let told = Told {
        mode,
        quiet,
        explain,
        iidfile,
        metadata_file,
        reference: format!("default/default/{id}"),
        in_metadata,
        dests,
    };
    // To enter namespaces takes an ordinary user as long as finding everything.
    if isolation == Isolation::Auto
        && !rustix::process::geteuid().is_root()
        && build.may_be_found()
        && let Some(code) = sandbox::apart(|| found(&build, &told))
    {
        return match code {
            0 => Ok(()),
            code => Err(Failure::Command(code)),
        };
    }
    let standing = sandbox::enter_by(isolation).map_err(Failure::Enter)?;
    let build = build.standing(&standing);

    let runtime = super::runtime()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let token = CancellationToken::new();
    let reporter = Reporter::start(mode);
    let build = build.cancel(token.clone());
    let result = runtime.block_on(async {
        watch_signals(token, interrupted.clone(), !environment.outlives_terminal())?;
        let sink = reporter.sink();
        build.clone().run(sink).await.map_err(Failure::from)
    });
    reporter.finish();
    if told.explain {
        render::note(&render::explain::text(&build.tables()));
    }
    let image = match result {
        Err(failure) if on_error == OnError::Shell && failed_in_run(&failure) => {
            render::diagnostic::show(&failure, environment.colour());
            if let Some(step) = build.failed_step()? {
                match super::debug::shell(step, Vec::new(), build.given()) {
                    // however the shell ended: the build failed
                    Ok(()) | Err(Failure::Command(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            return Err(Failure::Command(1));
        }
        Err(_) if interrupted.load(Ordering::SeqCst) => return Err(Failure::Interrupted),
        result => result?,
    };
    // All is done: no thread is waited for.
    runtime.shutdown_background();
    told.write(&image)?;
    told.tell(&image)
}

/// Has the image where nothing must be done for it, and tells; the exit code.
fn found(build: &Build, told: &Told) -> Option<u8> {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let image = super::runtime()
        .ok()?
        .block_on(build.clone().look(events.clone()))?;
    told.write(&image).ok()?;
    let reporter = Reporter::start(told.mode);
    let sink = reporter.sink();
    let events = events.lock().ok()?.split_off(0);
    events.into_iter().for_each(|event| sink.emit(event));
    drop(sink);
    reporter.finish();
    if told.explain {
        render::note(&render::explain::text(&build.tables()));
    }
    Some(u8::from(told.tell(&image).is_err()))
}

/// Says before the build what would only be found after it.
fn writable(flag: &str, file: &Path) -> Result<(), Failure> {
    let shown = file.display();
    let parent = file.parent().filter(|it| !it.as_os_str().is_empty());
    if let Some(parent) = parent
        && !parent.is_dir()
    {
        let parent = parent.display();
        return Err(Failure::usage(format!(
            "{flag} {shown}: there is no directory {parent}"
        )));
    }
    match file.is_dir() {
        true => Err(Failure::usage(format!("{flag} {shown}: it is a directory"))),
        false => Ok(()),
    }
}

/// Names this one build; behind builder and node, as buildx has it.
fn invocation() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_nanos());
    let seed = format!("{now} {}", std::process::id());
    builder_core::digest::Digest::of(seed.as_bytes()).hex()[..25].to_owned()
}

/// Whether the files of a step are kept to be looked at.
fn failed_in_run(failure: &Failure) -> bool {
    let Failure::Build(error) = failure else {
        return false;
    };
    matches!(&**error, BuildError::Solve(located)
        if matches!(*located.error.kind, SolveErrorKind::Exit { .. } | SolveErrorKind::Signal { .. }))
}

/// What is asked in place of a build.
fn asked(args: &BuildArgs) -> Result<Option<Call>, Failure> {
    let given = args.call.as_deref().map(Call::parse).transpose()?;
    let check = Call {
        method: Method::Check,
        format: Format::Text,
    };
    match (given, args.check) {
        (None, check_flag) => Ok(check_flag.then_some(check)),
        (Some(Some(call)), true) if call.method != Method::Check => Err(Failure::usage(
            "--check is --call=check: give one of --check and --call",
        )),
        (Some(None), true) => Ok(Some(check)),
        (Some(call), _) => Ok(call),
    }
}

/// Translates what only `build` has.
fn requested(args: BuildArgs, environment: &Environment) -> Result<Build, Failure> {
    let annotations = args.annotation.iter().map(|text| {
        builder_core::build::Annotation::parse(text)
            .map_err(|error| Failure::usage(format!("--annotation {text}: {error}")))
    });
    let annotations: Vec<_> = annotations.collect::<Result<_, _>>()?;
    let mut build = no_cache(request(args.inputs, environment)?, &args.no_cache)?;
    let limits = match args.gc {
        Some(limits) => Some(limits),
        None => environment.text("BUILDER_GC")?.filter(|it| !it.is_empty()),
    };
    build = build.gc(super::prune::policy(limits.as_deref().unwrap_or_default())?);
    build = no_cache_stages(build, args.no_cache_filter)?;
    for name in args.tag {
        if let Err(error) = name.parse::<Reference>() {
            return Err(Failure::usage(format!("--tag {name}: {error}")));
        }
        build = build.tag(name);
    }
    for text in &args.cache_from {
        build = build.cache_from(caches::from(text)?);
    }
    for text in &args.cache_to {
        build = build.cache_to(caches::to(text)?);
    }
    for annotation in annotations.into_iter().flatten() {
        build = build.annotation(annotation);
    }
    for text in &args.secret {
        let (id, value) = secrets::read(text, environment)?;
        build = build.secret(id, value);
    }
    for text in &args.ssh {
        let (id, source) = ssh::read(text, environment)?;
        build = build.ssh(id, source);
    }
    if let Some(bytes) = args.max_layer_size {
        build = build.max_layer_bytes(bytes);
    }
    if let Some(jobs) = args.jobs {
        build = build.jobs(usize::from(jobs));
    }
    args.steps.apply(build)
}

/// Reads `--no-cache` and `--no-cache=3-5,9`; true and false are as in Docker.
fn no_cache(mut build: Build, values: &[String]) -> Result<Build, Failure> {
    for value in values.iter().flat_map(|value| value.split(',')) {
        build = match value {
            "true" => build.no_cache(true),
            "false" => build.no_cache(false),
            _ => {
                let (first, last) = value.split_once('-').unwrap_or((value, value));
                match (first.parse(), last.parse()) {
                    (Ok(first), Ok(last)) if 0 < first && first <= last => {
                        build.no_cache_lines(first..=last)
                    }
                    _ => {
                        return Err(Failure::usage(format!(
                            "--no-cache={value}: lines of the Dockerfile are expected, such as `7` or `3-5`"
                        )));
                    }
                }
            }
        };
    }
    Ok(build)
}

/// Reads `--no-cache-filter`: buildx takes one that is empty for all stages.
fn no_cache_stages(build: Build, stages: Vec<String>) -> Result<Build, Failure> {
    if stages == [""] {
        return Ok(build.no_cache(true));
    }
    stages.into_iter().try_fold(build, |build, stage| {
        if stage.is_empty() {
            return Err(Failure::usage(
                "--no-cache-filter: names of stages are expected, such as `deps,test`; one of them is empty",
            ));
        }
        Ok(build.no_cache_stage(stage))
    })
}

fn mode(quiet: bool, progress: Progress, environment: &Environment) -> Mode {
    let plain = Mode::Plain {
        terminal: environment.is_terminal(),
    };
    match progress {
        _ if quiet => Mode::Quiet,
        Progress::Quiet => Mode::Quiet,
        Progress::Rawjson => Mode::RawJson,
        Progress::Plain => plain,
        Progress::Auto | Progress::Tty if environment.can_redraw() => Mode::Tty {
            colour: environment.colour(),
        },
        Progress::Auto | Progress::Tty => plain,
    }
}

/// The first SIGINT, SIGTERM or SIGHUP cancels the build, which then ends by itself; the second ends the process. Under
/// `nohup` SIGHUP stays ignored. SIGINT does not, although shells start jobs in the background with it ignored: a build that
/// a script started there ends with the script.
fn watch_signals(
    token: CancellationToken,
    interrupted: Arc<AtomicBool>,
    hears_hangup: bool,
) -> Result<(), Failure> {
    let failed = |error| Failure::Io(format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = match hears_hangup {
        true => Some(signal(SignalKind::hangup()).map_err(failed)?),
        false => None,
    };
    let hung_up = async move {
        match &mut hangup {
            Some(hangup) => hangup.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            () = either(&mut interrupt, &mut terminate) => {}
            _ = hung_up => {}
        }
        interrupted.store(true, Ordering::SeqCst);
        token.cancel();
        either(&mut interrupt, &mut terminate).await;
        // The helper and all steps die with this process.
        std::process::exit(i32::from(INTERRUPTED));
    });
    Ok(())
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// What is told of an image that was made, and where.
struct Told {
    mode: Mode,
    quiet: bool,
    explain: bool,
    iidfile: Option<PathBuf>,
    metadata_file: Option<PathBuf>,
    /// Of the build, as buildx has it.
    reference: String,
    in_metadata: Option<InMetadata>,
    dests: Vec<String>,
}

impl Told {
    /// Writes the files that were asked for.
    fn write(&self, image: &Image) -> Result<(), Failure> {
        let failed = |file: &Path| {
            let file = file.display().to_string();
            move |error| Failure::Io(format!("cannot write {file}: {error}"))
        };
        if let Some(file) = &self.metadata_file {
            let metadata = image.metadata(&self.reference, self.in_metadata.as_ref());
            std::fs::write(file, format!("{metadata:#}\n")).map_err(failed(file))?;
        }
        if let Some(file) = &self.iidfile {
            // An index has no config: its own digest is what names it, as with buildx.
            std::fs::write(file, image.id().to_string()).map_err(failed(file))?;
        }
        Ok(())
    }

    /// Tells what was made.
    fn tell(&self, image: &Image) -> Result<(), Failure> {
        let id = image.id();
        if self.quiet {
            return render::result(&format!("{id}\n"));
        }
        if matches!(self.mode, Mode::Plain { .. } | Mode::Tty { .. }) {
            let mut text = match &image.stored.index {
                Some(index) => format!("index    {}\n", index.digest),
                None => format!("image    {id}\nmanifest {}\n", image.stored.manifest.digest),
            };
            for (output, dest) in image.outputs.iter().zip(&self.dests) {
                // What is pushed has been told by its name.
                if let Some(finished) = output
                    && !dest.is_empty()
                {
                    let word = match finished.index {
                        Some(_) => "index   ",
                        None => "manifest",
                    };
                    text += &format!("{word} {} in {dest}\n", finished.top().digest);
                }
            }
            render::note(&text);
        }
        Ok(())
    }
}

//! Work that blocks, begun by a future.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

/// Does `work` on this thread where it waits for this future alone (`block_on`), else on one for such work. To hand a small
/// piece of work to a thread that sleeps, and its result back, takes longer than the work.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let is_task = tokio::task::try_id().is_some();
    let has_others = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if has_others && !is_task {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is being taken down, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Waits for `future` in the midst of blocking work, which may be on a thread that a runtime waits on: it is on another then.
///
/// # Panics
/// Outside a runtime; where the future does.
pub(crate) fn wait_for<F>(future: F) -> F::Output
where
    F: Future + Send,
    F::Output: Send,
{
    let runtime = Handle::current();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| runtime.block_on(future));
        waiting.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Begins `work` among the threads that share out work on files; what it shares out itself then needs no hand-over.
pub(super) fn among_workers<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = T> + Send {
    let (tell, told) = oneshot::channel();
    rayon::spawn(move || {
        // Whoever waits has gone, or gets the panic too.
        let _ = tell.send(catch_unwind(AssertUnwindSafe(work)));
    });
    async {
        match told.await {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => resume_unwind(panic),
            // Something is sent whatever happens.
            Err(_) => std::future::pending().await,
        }
    }
}

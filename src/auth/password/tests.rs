//! Hashing and comparing, the cost of an unknown user, and the queue.

use std::future::Future;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::time::Duration;

use argon2::PasswordHasher;

use super::*;

fn hasher(concurrency: usize, queue: usize) -> Hasher {
    Hasher::new(Params::weakest_for_tests(), concurrency, queue).unwrap()
}

fn password(text: &str) -> Password {
    Password::parse(text).unwrap()
}

/// Awaits a future that must complete, with a time limit.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it comes soon")
}

async fn until(hasher: &Hasher, reached: impl Fn(Load) -> bool) {
    soon(async {
        while !reached(hasher.load()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Takes one turn and keeps it until the sender is dropped.
fn occupy(hasher: &Hasher) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<()>>) {
    let (release, released) = mpsc::channel::<()>();
    let hasher = hasher.clone();
    let caller = tokio::spawn(async move {
        hasher
            .run(HASH, move || {
                let _ = released.recv();
            })
            .await
    });
    (release, caller)
}

#[tokio::test]
async fn a_password_matches_its_own_hash_and_no_other() {
    let hasher = hasher(2, 2);
    let (right, wrong) = (password("correct horse"), password("correct horsf"));
    let hash = hasher.hash(&right).await.unwrap();
    assert!(hash.as_str().starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{}", hash.as_str());
    let stored = PasswordHash::stored(hash.as_str().to_owned());
    assert!(hasher.verify(&right, Some(&stored)).await.unwrap());
    assert!(!hasher.verify(&wrong, Some(&stored)).await.unwrap());
    let again = hasher.hash(&right).await.unwrap();
    assert_ne!(again.as_str(), hash.as_str(), "each hash has a salt of its own");
}

#[tokio::test]
async fn the_whole_password_counts_to_the_last_byte() {
    let hasher = hasher(1, 1);
    let (long, other) = ("x".repeat(1024), format!("{}y", "x".repeat(1023)));
    let hash = hasher.hash(&password(&long)).await.unwrap();
    assert!(hasher.verify(&password(&long), Some(&hash)).await.unwrap());
    assert!(!hasher.verify(&password(&other), Some(&hash)).await.unwrap());
}

#[tokio::test]
async fn an_unknown_user_costs_the_same_work_as_a_wrong_password() {
    let params = Params { memory_kib: 64, iterations: 3, parallelism: 2 };
    let hasher = Hasher::new(params, 1, 1).unwrap();
    let known = hasher.hash(&password("correct horse")).await.unwrap();
    let given = password("wrong horse");

    let before = hasher.load().computed;
    assert!(!hasher.verify(&given, Some(&known)).await.unwrap());
    let for_known = hasher.load().computed - before;
    assert!(!hasher.verify(&given, None).await.unwrap());
    let for_unknown = hasher.load().computed - before - for_known;
    assert_eq!((for_known, for_unknown), (1, 1));

    let (known, dummy) = (known.parts().unwrap(), &hasher.inner.dummy);
    assert_eq!(known.algorithm, dummy.algorithm);
    assert_eq!(known.version, dummy.version);
    assert_eq!(known.params, dummy.params);
    assert_eq!(known.salt.unwrap().len(), dummy.salt.unwrap().len());
    assert_eq!(known.hash.unwrap().len(), dummy.hash.unwrap().len());
}

#[tokio::test]
async fn the_dummy_hash_is_compared_by_argon2_and_its_result_is_ignored() {
    let given = password("correct horse");
    let mut inner = Arc::into_inner(hasher(1, 1).inner).unwrap();
    inner.dummy = inner.argon2.hash_password(given.expose().as_bytes()).unwrap();
    let matching = Hasher { inner: Arc::new(inner), client: None };
    assert!(!matching.verify(&given, None).await.unwrap());

    let mut inner = Arc::into_inner(matching.inner).unwrap();
    inner.dummy.version = Some(99);
    let broken = Hasher { inner: Arc::new(inner), client: None };
    let error = broken.verify(&given, None).await.unwrap_err();
    assert!(matches!(error, Error::Internal { during: VERIFY, .. }), "{error:?}");
}

#[tokio::test]
async fn a_hash_with_other_parameters_still_verifies_and_needs_renewal() {
    let today = hasher(1, 1);
    let given = password("correct horse");
    let renewed = today.hash(&given).await.unwrap();
    assert!(!today.needs_rehash(&renewed));
    for params in [
        Params { memory_kib: 16, ..Params::weakest_for_tests() },
        Params { iterations: 2, ..Params::weakest_for_tests() },
        Params { memory_kib: 16, iterations: 1, parallelism: 2 },
    ] {
        let hash = Hasher::new(params, 1, 1).unwrap().hash(&given).await.unwrap();
        assert!(today.verify(&given, Some(&hash)).await.unwrap(), "{params:?}");
        assert!(!today.verify(&password("wrong horse"), Some(&hash)).await.unwrap());
        assert!(today.needs_rehash(&hash), "{params:?}");
    }
    for (algorithm, version) in
        [(Algorithm::Argon2i, Version::V0x13), (Algorithm::Argon2id, Version::V0x10)]
    {
        let foreign = Argon2::new(algorithm, version, today.inner.argon2.params().clone());
        let hash = foreign.hash_password(given.expose().as_bytes()).unwrap().to_string();
        let hash = PasswordHash::stored(hash);
        assert!(today.verify(&given, Some(&hash)).await.unwrap());
        assert!(today.needs_rehash(&hash));
    }
}

#[tokio::test]
async fn a_stored_hash_that_cannot_be_parsed_is_an_internal_error_and_not_a_wrong_password() {
    let hasher = hasher(1, 1);
    let given = password("correct horse");
    let whole = hasher.hash(&given).await.unwrap().as_str().to_owned();
    let (without_hash, _) = whole.rsplit_once('$').unwrap();
    let (without_salt, _) = without_hash.rsplit_once('$').unwrap();
    for broken in [
        "",
        "correct horse",
        "$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
        without_hash,
        without_salt,
        &whole.replace("argon2id", "argon2x"),
        &whole.replace("v=19", "v=99"),
        &whole.replace("m=8", "m=1"),
    ] {
        let stored = PasswordHash::stored(broken.to_owned());
        let verdict = hasher.verify(&given, Some(&stored)).await;
        assert!(matches!(verdict, Err(Error::Internal { .. })), "{broken:?}: {verdict:?}");
        assert!(hasher.needs_rehash(&stored), "{broken:?}");
    }
}

#[test]
fn parameters_that_argon2_refuses_are_refused_at_the_start() {
    for params in [
        Params { memory_kib: 7, ..Params::weakest_for_tests() },
        Params { iterations: 0, ..Params::weakest_for_tests() },
        Params { parallelism: 0, ..Params::weakest_for_tests() },
        Params { parallelism: 2, ..Params::weakest_for_tests() },
    ] {
        assert!(matches!(Hasher::new(params, 1, 1), Err(Error::Internal { .. })), "{params:?}");
    }
    assert!(Hasher::new(Params::default(), usize::MAX, usize::MAX).is_ok());
}

/// As under actix, where every worker thread has a runtime and a blocking pool of its own.
#[test]
fn the_limit_holds_across_runtimes() {
    const WORKERS: usize = 8;
    let hasher = hasher(2, WORKERS);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let worker = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for _ in 0..10 {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            let job = move || {
                let running = now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(running, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
                now.fetch_sub(1, Ordering::SeqCst);
            };
            runtime.block_on(hasher.clone().run(HASH, job)).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(worker);
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 2, "both turns were used, and no third");
    assert_eq!(hasher.load(), Load { running: 0, waiting: 0, computed: 0 });
}

#[tokio::test]
async fn a_caller_that_finds_the_queue_full_is_refused() {
    let hasher = hasher(1, 1);
    let (release, first) = occupy(&hasher);
    until(&hasher, |load| load.running == 1).await;
    let waiter = hasher.clone();
    let second = tokio::spawn(async move { waiter.hash(&password("correct horse")).await });
    until(&hasher, |load| load.waiting == 1).await;

    let given = password("correct horse");
    for refused in
        [soon(hasher.hash(&given)).await.map(|_| true), soon(hasher.verify(&given, None)).await]
    {
        match refused {
            Err(Error::Unavailable { retry_after, .. }) => assert!(!retry_after.is_zero()),
            other => panic!("{other:?}"),
        }
    }

    drop(release);
    soon(first).await.unwrap().unwrap();
    soon(second).await.unwrap().unwrap();
    soon(hasher.hash(&given)).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_leaves_the_queue_frees_its_permit() {
    let hasher = hasher(1, 1);
    let (release, first) = occupy(&hasher);
    until(&hasher, |load| load.running == 1).await;
    let (_unused, second) = occupy(&hasher);
    until(&hasher, |load| load.waiting == 1).await;
    second.abort();
    until(&hasher, |load| load.waiting == 0).await;

    let waiter = hasher.clone();
    let third = tokio::spawn(async move { waiter.hash(&password("correct horse")).await });
    until(&hasher, |load| load.waiting == 1).await;
    drop(release);
    soon(first).await.unwrap().unwrap();
    soon(third).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_caller_that_leaves_during_the_work_frees_its_permit_when_the_work_is_over() {
    let hasher = hasher(1, 1);
    let (release, first) = occupy(&hasher);
    until(&hasher, |load| load.running == 1).await;
    first.abort();
    assert!(soon(first).await.unwrap_err().is_cancelled());

    let waiter = hasher.clone();
    let second = tokio::spawn(async move { waiter.hash(&password("correct horse")).await });
    until(&hasher, |load| load.waiting == 1).await;
    assert_eq!(hasher.load().running, 1, "the work goes on, so its turn stays taken");
    assert_eq!(hasher.load().computed, 0);

    drop(release);
    soon(second).await.unwrap().unwrap();
    assert_eq!(hasher.load(), Load { running: 0, waiting: 0, computed: 1 });
}

#[tokio::test]
async fn a_job_that_panics_frees_its_permit() {
    let hasher = hasher(1, 0);
    let error = hasher.run(HASH, || panic!("on purpose")).await.unwrap_err();
    assert!(matches!(error, Error::Internal { .. }), "{error:?}");
    soon(hasher.hash(&password("correct horse"))).await.unwrap();
}

#[tokio::test]
async fn nothing_of_a_hash_is_printed() {
    let hasher = hasher(1, 0);
    let hash = hasher.hash(&password("correct horse")).await.unwrap();
    assert_eq!(format!("{hash:?}"), "PasswordHash(redacted)");
    assert!(!format!("{hasher:?}").contains("argon2"));
    let stored = PasswordHash::stored("$argon2id$v=19$secretsecret".to_owned());
    let error = hasher.verify(&password("correct horse"), Some(&stored)).await.unwrap_err();
    assert!(!format!("{error:?} {}", error.chain()).contains("secretsecret"));
}

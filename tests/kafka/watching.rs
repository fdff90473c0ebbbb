//! What a person watches: history, what is due when, events as they happen; and who may: TLS, slow clients.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{ask, command, get};
use crate::scene::{Scene, payload};
use crate::support::client::NewRecord;
use crate::support::kms::Kms;
use crate::support::{PATIENCE, now_ms, poll_until};

const HOUR_MS: i64 = 3_600_000;

#[test]
fn history_tells_what_became_of_each() {
    let scene = Scene::new("watch-history", 2);
    let kms = Kms::start_ready(&scene.settings());
    let api = kms.admin();
    let due_ms = now_ms() + 300;
    scene.client.produce(&[
        scene.schedule("fired", 1, due_ms),
        scene.schedule("cancelled", 1, due_ms + HOUR_MS),
        scene.schedule("replaced", 1, due_ms + HOUR_MS),
    ]);
    scene.await_payload(&payload("fired", 1));
    scene.client.produce(&[
        scene.cancel("cancelled"),
        scene.schedule("replaced", 2, due_ms + 2 * HOUR_MS),
        NewRecord::to(&scene.schedules).key("rejected").value("no schedule"),
    ]);
    let events = poll_until(PATIENCE, || {
        let events = get(api, "/api/history").1["events"].as_array().unwrap().clone();
        (events.len() == 4).then_some(events)
    })
    .expect("four things happened");
    let event =
        |id: &str| events.iter().find(|event| event["id"] == id).unwrap_or_else(|| panic!("{events:?}"));

    let fired = event("fired");
    assert_eq!(
        (&fired["kind"], &fired["due"], &fired["topic"]),
        (&json!("fired"), &json!(due_ms), &json!(scene.destination))
    );
    let late_ms = fired["late_ms"].as_i64().unwrap();
    assert!((0..5_000).contains(&late_ms) && fired["time"] == json!(due_ms + late_ms), "{fired}");
    assert_eq!(event("cancelled")["kind"], "cancelled");
    let replaced = event("replaced");
    assert_eq!((&replaced["kind"], &replaced["due"]), (&json!("replaced"), &json!(due_ms + 2 * HOUR_MS)));
    assert!(event("rejected")["reason"].as_str().unwrap().contains("JSON"), "{events:?}");
    let times: Vec<i64> = events.iter().map(|event| event["time"].as_i64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first: {times:?}");

    let of = |query: &str| get(api, &format!("/api/history?{query}")).1["events"].as_array().unwrap().len();
    assert_eq!((of("kind=fired"), of("prefix=re"), of("limit=1"), of("kind=skipped")), (1, 2, 1, 0));
    assert_eq!(get(api, "/api/history?kind=nothing").0, 400);
    let said = get(api, "/api/schedules/fired").1["message"].as_str().unwrap().to_owned();
    assert!(said.contains("fired at 20"), "{said}");
}

#[test]
fn what_is_due_when_adds_up() {
    let scene = Scene::new("watch-due", 3);
    let now_ms = now_ms();
    let after_ms: [i64; 8] = [
        -5_000_000,
        90_000,
        4 * 60_000,
        HOUR_MS / 2 + 60_000,
        5 * HOUR_MS,
        100 * HOUR_MS,
        2_000 * HOUR_MS,
        100_000 * HOUR_MS,
    ];
    let settings = scene.settings().env("KMS_DESTINATIONS__DENY", &scene.destination);
    let records: Vec<_> = after_ms
        .iter()
        .enumerate()
        .flat_map(|(n, after_ms)| (0..10).map(move |m| (format!("{n}-{m}"), now_ms + after_ms)))
        .map(|(id, due_ms)| scene.schedule(&id, 1, due_ms))
        .collect();
    scene.client.produce(&records);
    let kms = Kms::start_ready(&settings);
    let (status, outlook) = get(kms.admin(), "/api/due");
    assert_eq!(status, 200, "{outlook}");
    let buckets = outlook["buckets"].as_array().unwrap();
    let counts: Vec<u64> = buckets.iter().map(|bucket| bucket["count"].as_u64().unwrap()).collect();
    assert_eq!(counts.iter().sum::<u64>(), 80, "{counts:?}");
    assert!(counts[0] >= 10, "what is overdue and cannot be delivered is due: {counts:?}");
    assert_eq!(counts[19], 10, "beyond a year: {counts:?}");
}

/// Reads server-sent events until one is of this kind; gives its data.
fn await_event(lines: &mut impl Iterator<Item = String>, kind: &str) -> Value {
    let mut is_wanted = false;
    for line in lines {
        if let Some(event) = line.strip_prefix("event: ") {
            is_wanted = event == kind;
        }
        if is_wanted && let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).unwrap();
        }
    }
    panic!("the events ended");
}

#[test]
fn events_come_as_they_happen() {
    let scene = Scene::new("watch-events", 2);
    let kms = Kms::start_ready(&scene.settings());
    let stream = TcpStream::connect(kms.admin()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (&stream).write_all(b"GET /api/events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(await_event(&mut lines, "stats")["pending"], 0);

    scene
        .client
        .produce(&[scene.schedule("one", 1, now_ms() + 200), scene.schedule("two", 1, now_ms() + HOUR_MS)]);
    let happened = await_event(&mut lines, "history");
    assert_eq!(
        (&happened["events"][0]["id"], &happened["events"][0]["kind"]),
        (&json!("one"), &json!("fired"))
    );
    let counted = (0..10).map(|_| await_event(&mut lines, "stats")).find(|stats| stats["pending"] == 1);
    assert!(counted.is_some_and(|stats| stats["fired"] == 1 && stats["ready"] == true));
    scene.client.produce(&[scene.cancel("two")]);
    let happened = await_event(&mut lines, "history");
    let events = happened["events"].as_array().unwrap();
    assert_eq!((events.len(), &events[0]["kind"]), (1, &json!("cancelled")), "each once");
}

#[test]
fn figures_over_time_have_points() {
    let scene = Scene::new("watch-stats", 1);
    let kms = Kms::start_ready(&scene.settings());
    let api = kms.admin();
    scene.client.produce(&[scene.schedule("one", 1, now_ms()), scene.schedule("two", 1, now_ms() + HOUR_MS)]);
    let points = poll_until(PATIENCE, || {
        let stats = get(api, "/api/stats?over=10m").1;
        let points = stats["over_time"]["points"].as_array()?.clone();
        points.iter().any(|point| point["fired"] == 1 && point["late_p99_ms"].is_u64()).then_some(points)
    })
    .expect("what was fired is in a plot");
    assert_eq!(points.last().unwrap()["pending"], 1);
    assert!(get(api, "/api/stats").1["over_time"].is_null());
    assert_eq!(get(api, "/api/stats?over=1y").0, 400);
}

#[test]
fn the_page_comes_with_what_it_needs_and_nothing_from_elsewhere() {
    let scene = Scene::new("watch-page", 1);
    let kms = Kms::start_ready(&scene.settings().env("KMS_ADMIN__TOKEN", "secret"));
    let page = crate::support::http::get(kms.admin(), "/").unwrap();
    assert_eq!(page.status, 200, "the page itself needs no token");
    let address = |part: &str| {
        part.split(['"', '\'']).nth(1).map(|address| format!("/{}", address.trim_start_matches('/')))
    };
    let referred: Vec<String> = ["src=", "href="]
        .iter()
        .flat_map(|attribute| page.body.split(attribute).skip(1))
        .filter_map(address)
        .collect();
    assert!(referred.len() > 3 && !page.body.contains("://"), "nothing from elsewhere: {referred:?}");
    for path in referred.iter().filter(|path| !path.starts_with("/#")) {
        let asset = crate::support::http::get(kms.admin(), path).unwrap();
        assert_eq!(asset.status, 200, "{path}");
    }
    assert_eq!(get(kms.admin(), "/api/stats").0, 401);
    assert_eq!(get(kms.admin(), "/nothing").1["code"], "unauthorized");
}

/// A certificate of 127.0.0.1 for an hour and its key, in PEM.
fn self_signed() -> (Vec<u8>, Vec<u8>) {
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
    use openssl::x509::{X509, X509Name};

    let key = PKey::from_rsa(Rsa::generate(2_048).unwrap()).unwrap();
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", "kms").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    let now_s = now_ms() / 1_000;
    builder.set_not_before(&Asn1Time::from_unix(now_s - 3_600).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now_s + 3_600).unwrap()).unwrap();
    builder.append_extension(BasicConstraints::new().ca().build().unwrap()).unwrap();
    let names =
        SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (builder.build().to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap())
}

#[test]
fn with_a_certificate_it_is_encrypted() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = self_signed();
    std::fs::write(path("certificate"), certificate).unwrap();
    std::fs::write(path("key"), key).unwrap();
    let scene = Scene::new("watch-tls", 1);
    let settings = scene.settings();
    let broken = settings
        .clone()
        .env("KMS_ADMIN__TLS__CERTIFICATE", &path("key"))
        .env("KMS_ADMIN__TLS__KEY", &path("key"));
    let mut kms = Kms::start(&broken);
    assert_eq!(kms.wait(PATIENCE).and_then(|status| status.code()), Some(2));
    assert!(
        kms.log_lines().iter().any(|line| line.contains("cannot use the certificate")),
        "{:?}",
        kms.log_lines()
    );

    let settings = settings
        .env("KMS_ADMIN__TLS__CERTIFICATE", &path("certificate"))
        .env("KMS_ADMIN__TLS__KEY", &path("key"));
    let kms = Kms::start_ready(&settings);
    let stats = |more: &str| command(&kms, &format!("stats --admin https://{}{more}", kms.admin()));
    let (code, said, error) = stats(&format!(" --admin-ca {}", path("certificate")));
    assert!(code == Some(0) && said.contains("pending"), "{said}{error}");
    let (code, _, error) = stats("");
    assert_eq!(code, Some(1), "the system does not trust it: {error}");
    assert_eq!(stats(&format!(" --admin-ca {}", path("key"))).0, Some(2), "no certificate");
    let plain = command(&kms, "stats");
    assert_eq!(plain.0, Some(1), "{}", plain.2);
}

#[test]
fn slow_clients_are_hung_up_on() {
    let scene = Scene::new("watch-slow", 1);
    let kms = Kms::start_ready(&scene.settings());
    let start = |sent: &str| {
        let mut stream = TcpStream::connect(kms.admin()).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
        stream
    };
    let head = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n";
    let began = Instant::now();
    let silent = start("");
    let in_the_head = start("GET /api/stats HTTP/1.1\r\nHost: loc");
    let in_the_body = start(&format!("PUT /api/schedules/a HTTP/1.1\r\n{head}\r\n{{"));
    let mut many: Vec<_> = (0..200).map(|_| start("GET ")).collect();
    // Others are served meanwhile, until there are too many.
    assert_eq!(get(kms.admin(), "/api/stats").0, 200);
    many.extend((0..100).map(|_| start("")));
    let closed = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        matches!(stream.read(&mut [0]), Ok(0))
    };
    let turned_away = poll_until(PATIENCE, || {
        let count = many.iter_mut().filter_map(|stream| closed(stream).then_some(())).count();
        (count >= 40).then_some(count)
    });
    assert!(turned_away.is_some() && began.elapsed() < Duration::from_secs(10), "they are told at once");
    for (mut stream, said) in [(silent, ""), (in_the_head, ""), (in_the_body, "HTTP/1.1 4")] {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(said), "{said}: {answer}");
    }
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    drop(many);
    let large = "x".repeat(5 << 20);
    let (status, answer) = ask(kms.admin(), "PUT", "/api/schedules/a", Some(&json!(large)));
    assert_eq!((status, &answer["code"]), (413, &json!("too_large")), "{answer}");
}

#[test]
fn what_is_pending_is_read_from_the_topic_itself() {
    let scene = Scene::new("watch-from-kafka", 3);
    let due_ms = now_ms() + HOUR_MS;
    scene
        .client
        .produce(&(0..50).map(|n| scene.schedule(&format!("id-{n}"), 1, due_ms + n)).collect::<Vec<_>>());
    scene.client.produce(&[scene.cancel("id-7"), scene.schedule("id-8", 2, due_ms)]);
    let run = |arguments: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_kms"))
            .args(arguments.split(' '))
            .args(["--from-kafka", "--brokers", scene.bootstrap()])
            .env_clear()
            .env("JSON_SCHEDULE_TOPICS", &scene.schedules)
            .output()
            .unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), out, err)
    };
    let (code, listed, error) = run("list --all --json");
    assert_eq!((code, listed.lines().count()), (Some(0), 49), "{error}");
    let (_, listed, said) = run("list --prefix id-1 --limit 5");
    assert!(listed.lines().count() == 6 && said.contains("There are more"), "{listed}{said}");
    let (code, shown, error) = run("get id-8 --json");
    assert_eq!(code, Some(0), "{error}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["time"], &shown["id"]), (&json!(due_ms), &json!("id-8")));
    let (code, _, error) = run("get id-7");
    assert!(code == Some(1) && error.contains("no schedule with the ID id-7 is pending"), "{error}");
}

/// There a transaction leaves no marker in the log, so that what a command wrote may be read after it has fired.
#[test]
fn on_the_embedded_stand_in_what_is_fired_now_fires_once() {
    const COUNT: usize = 40;
    let port = crate::support::port::free();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_kms"))
        .args([
            "demo",
            "--seconds",
            "60",
            "--metrics",
            "127.0.0.1:0",
            "--admin",
            &format!("127.0.0.1:{port}"),
        ])
        .env_clear()
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let api = format!("127.0.0.1:{port}").parse().unwrap();
    let is_ready = || {
        crate::support::http::get(api, "/api/stats").is_ok_and(|stats| stats.body.contains("\"ready\":true"))
    };
    assert!(poll_until(PATIENCE, || is_ready().then_some(())).is_some());
    for n in 0..COUNT {
        let body = json!({"in": "1h", "topic": "reminders"});
        assert_eq!(ask(api, "PUT", &format!("/api/schedules/now-{n}"), Some(&body)).0, 200);
        assert_eq!(ask(api, "POST", &format!("/api/schedules/now-{n}/fire"), Some(&json!({}))).0, 200);
    }
    let fired =
        || get(api, "/api/history?prefix=now-&kind=fired&limit=1000").1["events"].as_array().unwrap().len();
    poll_until(PATIENCE, || (fired() >= COUNT).then_some(())).expect("all of them fire");
    std::thread::sleep(Duration::from_secs(1));
    let count = fired();
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert_eq!(count, COUNT, "each once");
}

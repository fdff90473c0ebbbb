//! The admin API of a running scheduler, over HTTP: every answer is held against the log and the destination.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::scene::{Scene, alone, payload};
use crate::support::client::NewRecord;
use crate::support::kms::Kms;
use crate::support::{PATIENCE, http, now_ms, poll_until};

/// Asks; gives the status and the answer.
pub(crate) fn ask(api: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let (headers, body): (&[_], _) = match body {
        Some(body) => (&[("Content-Type", "application/json")], body.to_string()),
        None => (&[], String::new()),
    };
    let answer = http::request(api, method, path, headers, &body).unwrap();
    let json = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body));
    (answer.status, json)
}

pub(crate) fn get(api: SocketAddr, path: &str) -> (u16, Value) {
    ask(api, "GET", path, None)
}

/// All schedules that a walk with these parameters finds, page by page.
pub(crate) fn walk(api: SocketAddr, parameters: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let next = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
        let (status, page) = get(api, &format!("/api/schedules?{parameters}{next}"));
        assert_eq!(status, 200, "{page}");
        found.extend(page["schedules"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return found,
        }
    }
}

pub(crate) fn ids(schedules: &[Value]) -> BTreeSet<String> {
    let ids: BTreeSet<_> =
        schedules.iter().map(|schedule| schedule["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), schedules.len(), "each once");
    ids
}

#[test]
fn a_schedule_is_created_seen_changed_and_fired() {
    let scene = Scene::new("api-life", 3);
    let kms = Kms::start_ready(&scene.settings());
    let api = kms.admin();
    let put = |id: &str, version, when: (&str, Value)| {
        let mut body =
            json!({"topic": scene.destination, "key_text": id, "value_text": payload(id, version)});
        body[when.0] = when.1;
        ask(api, "PUT", &format!("/api/schedules/{id}"), Some(&body))
    };
    let due_ms = now_ms() + 3_600_000;

    let (status, created) = put("one", 1, ("time", json!(due_ms)));
    assert_eq!(
        (status, &created["outcome"], &created["id"]),
        (200, &json!("done"), &json!("one")),
        "{created}"
    );
    let (status, seen) = get(api, "/api/schedules/one");
    assert_eq!(status, 200, "{seen}");
    for (field, value) in [
        ("id", json!("one")),
        ("schedule_topic", json!(scene.schedules)),
        ("partition", created["partition"].clone()),
        ("offset", created["offset"].clone()),
        ("state", json!("pending")),
        ("time", json!(due_ms)),
        ("topic", json!(scene.destination)),
        ("key", json!("b25l")),
        ("headers", json!({})),
    ] {
        assert_eq!(seen[field], value, "{field}: {seen}");
    }
    // It lies where any producer would have put it.
    let partition = created["partition"].as_i64().unwrap() as i32;
    let written = scene.committed();
    assert!(written.iter().any(|seen| seen.key_text() == "one" && seen.partition == partition));

    // Replaced, then due sooner, then at once.
    assert_eq!(put("one", 2, ("in", json!("90m"))).0, 200);
    let sooner = json!({"time": due_ms - 60_000});
    assert_eq!(ask(api, "POST", "/api/schedules/one/reschedule", Some(&sooner)).0, 200);
    assert_eq!(get(api, "/api/schedules/one").1["time"], json!(due_ms - 60_000));
    assert_eq!(scene.count_of(&payload("one", 2)), 0);
    assert_eq!(ask(api, "POST", "/api/schedules/one/fire", Some(&json!({}))).0, 200);
    scene.await_payload(&payload("one", 2));
    let gone = poll_until(PATIENCE, || (get(api, "/api/schedules/one").0 == 404).then_some(()));
    assert!(gone.is_some(), "it is fired");
    for (method, path) in [("DELETE", ""), ("POST", "/fire"), ("POST", "/reschedule")] {
        let (status, answer) =
            ask(api, method, &format!("/api/schedules/one{path}"), Some(&json!({"in": "1s"})));
        assert_eq!((status, &answer["code"]), (404, &json!("not_pending")), "{method} {path}");
    }

    // Cancelled.
    assert_eq!(put("two", 1, ("in", json!("1h"))).0, 200);
    assert_eq!(ask(api, "DELETE", "/api/schedules/two", None).0, 200);
    assert_eq!(get(api, "/api/schedules/two").0, 404);
    drop(kms);
    scene.assert_everything_fired_once(&scene.settings());
    assert_eq!((scene.count_of(&payload("one", 1)), scene.count_of(&payload("two", 1))), (0, 0));
}

#[test]
fn a_walk_gives_each_schedule_once_and_only_what_is_asked_for() {
    const COUNT: usize = 3_000;
    let scene = Scene::new("api-list", 4);
    let due_ms = now_ms() + 3_600_000;
    let other = "elsewhere";
    let id = |n: usize| format!("{}-{n:04}", ["red", "blue"][n % 2]);
    let records: Vec<NewRecord> = (0..COUNT)
        .map(|n| {
            let destination = if n.is_multiple_of(10) { other } else { &scene.destination };
            let value = crate::scene::schedule(destination, &id(n), 1, due_ms + n as i64);
            NewRecord::to(&scene.schedules).key(id(n)).value(value)
        })
        .collect();
    scene.client.produce(&records);
    let kms = Kms::start_ready(&scene.settings());
    let api = kms.admin();

    let of =
        |wanted: &dyn Fn(usize) -> bool| (0..COUNT).filter(|&n| wanted(n)).map(id).collect::<BTreeSet<_>>();
    assert_eq!(ids(&walk(api, "limit=700")), of(&|_| true));
    assert_eq!(ids(&walk(api, "prefix=blue-&limit=100")), of(&|n| n % 2 == 1));
    assert_eq!(ids(&walk(api, &format!("destination={other}"))), of(&|n| n.is_multiple_of(10)));
    let times = format!("from={}&to={}", due_ms + 100, due_ms + 199);
    assert_eq!(ids(&walk(api, &times)), of(&|n| (100..200).contains(&n)));
    assert!(walk(api, "prefix=green").is_empty());
    assert_eq!(ids(&walk(api, "prefix=&destination=&from=&to=&limit=1000")), of(&|_| true), "left empty");

    // Many walk at once.
    let walks: Vec<_> =
        (0..8).map(|n| std::thread::spawn(move || walk(api, &format!("limit={}", 100 + n)))).collect();
    for found in walks {
        assert_eq!(ids(&found.join().unwrap()), of(&|_| true));
    }

    let (status, page) = get(api, "/api/schedules?limit=1");
    assert_eq!((status, page["schedules"].as_array().unwrap().len()), (200, 1));
    assert_eq!(page["partitions"], json!({"owned": [0, 1, 2, 3], "missing": []}));
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    let (status, partitions) = get(api, "/api/partitions");
    let pending =
        partitions["partitions"].as_array().unwrap().iter().map(|one| one["pending"].as_i64().unwrap());
    assert_eq!((status, pending.sum::<i64>()), (200, COUNT as i64), "{partitions}");
    let (_, all) = get(api, "/api/stats");
    assert_eq!((&all["pending"], &all["partitions"]), (&json!(COUNT), &json!(4)), "{all}");

    // A cursor means nothing to the next process.
    drop(kms);
    let kms = Kms::start_ready(&scene.settings());
    let (status, answer) = get(kms.admin(), &format!("/api/schedules?cursor={cursor}"));
    assert_eq!((status, &answer["code"]), (410, &json!("outdated_cursor")), "{answer}");
}

#[test]
fn what_cannot_be_done_is_said_and_writes_nothing() {
    let scene = Scene::new("api-refusals", 2);
    let kms = Kms::start_ready(&scene.settings());
    let api = kms.admin();
    let good = json!({"in": "1h", "topic": scene.destination});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (path, body, status, code) in [
        ("/api/schedules/a", with("topic", json!("__consumer_offsets")), 422, "destination_denied"),
        ("/api/schedules/a", with("topic", json!(scene.schedules)), 422, "destination_denied"),
        ("/api/schedules/a", with("topic", json!("no/topic")), 422, "illegal_destination"),
        ("/api/schedules/a", with("time", json!(5)), 422, "invalid_schedule"),
        ("/api/schedules/a", with("valeu", json!("x")), 400, "invalid_json"),
        ("/api/schedules/a", json!([]), 400, "invalid_json"),
        ("/api/schedules/~*", good.clone(), 400, "invalid_id"),
        ("/api/schedules/a?schedule_topic=none", good.clone(), 404, "no_such_topic"),
        ("/api/nothing", good.clone(), 404, "no_such_path"),
    ] {
        let (answered, answer) = ask(api, "PUT", path, Some(&body));
        assert_eq!((answered, answer["code"].as_str()), (status, Some(code)), "{path} {body}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
    }
    for path in ["limti=3", "limit=0", "limit=1001", "limit=x", "from=yesterday", "cursor=x"] {
        let (status, answer) = get(api, &format!("/api/schedules?{path}"));
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_parameter")), "{path}: {answer}");
    }
    let headers = [("Content-Type", "application/json"), ("Origin", "https://elsewhere.example")];
    let foreign = http::request(api, "PUT", "/api/schedules/a", &headers, &good.to_string()).unwrap();
    assert_eq!(foreign.status, 403, "{}", foreign.body);
    assert!(scene.committed().is_empty(), "nothing was written");

    // An unknown ID gets its tombstone on request.
    assert_eq!(ask(api, "DELETE", "/api/schedules/unread", None).0, 404);
    assert_eq!(ask(api, "DELETE", "/api/schedules/unread?anyway=true", None).0, 200);
    let written = scene.committed();
    assert_eq!(written.len(), 1);
    assert_eq!((written[0].key_text().as_str(), written[0].value.as_deref()), ("unread", None));
}

#[test]
fn what_is_too_large_is_refused_before_it_is_tried_and_large_pages_end_early() {
    let scene = Scene::new("api-large", 1);
    let kms = Kms::start_ready(&scene.settings());
    let put = |id: &str, bytes: usize| {
        let body = json!({"in": "1h", "topic": scene.destination, "value_text": "x".repeat(bytes)});
        ask(kms.admin(), "PUT", &format!("/api/schedules/{id}"), Some(&body))
    };
    // In base64 it is a third larger.
    let (status, answer) = put("too-large", 1_000_000);
    assert_eq!((status, &answer["code"]), (422, &json!("refused")), "{answer}");
    assert_eq!(kms.metric("kms_transactions_total", &[]).unwrap_or_default() as i64, 0, "nothing was begun");
    for n in 0..5 {
        assert_eq!(put(&format!("large-{n}"), 400_000).0, 200);
    }
    let (_, page) = get(kms.admin(), "/api/schedules");
    let given = page["schedules"].as_array().unwrap().len();
    assert!((1..5).contains(&given) && page["next_cursor"].is_string(), "{given}");
    assert_eq!(ids(&walk(kms.admin(), "")).len(), 5);
}

#[test]
fn what_is_written_already_is_rescheduled_though_it_is_not_read_yet() {
    let scene = Scene::new("api-unread", 1);
    let kms = Kms::start_ready(&scene.settings());
    let due_ms = now_ms() + 3_600_000;
    for n in 0..100 {
        let id = format!("unread-{n}");
        scene.client.produce(&[scene.schedule(&id, 1, due_ms)]);
        let (status, answer) = ask(
            kms.admin(),
            "POST",
            &format!("/api/schedules/{id}/reschedule"),
            Some(&json!({"time": due_ms + 1})),
        );
        assert_eq!(status, 200, "{answer}");
    }
    let listed = walk(kms.admin(), "");
    assert!(
        listed.len() == 100 && listed.iter().all(|schedule| schedule["time"] == due_ms + 1),
        "{listed:?}"
    );
}

#[test]
fn whoever_reschedules_what_is_written_all_the_time_holds_up_no_others() {
    let scene = Scene::new("api-hot", 1);
    let kms = Kms::start_ready(&scene.settings());
    let due_ms = now_ms() + 3_600_000;
    let stop = AtomicBool::new(false);
    let late_ms = std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut version = 1;
            while !stop.load(Ordering::Relaxed) {
                scene.client.produce(&[scene.schedule("hot", version, due_ms)]);
                version += 1;
            }
        });
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (status, answer) = ask(
                    kms.admin(),
                    "POST",
                    "/api/schedules/hot/reschedule",
                    Some(&json!({"time": due_ms + 1})),
                );
                assert!([200, 404, 503].contains(&status), "{answer}");
            }
        });
        let mut late_ms = Vec::new();
        for n in 0..20 {
            let due_ms = now_ms() + 100;
            let id = format!("calm-{n}");
            scene.client.produce(&[scene.schedule(&id, 1, due_ms)]);
            scene.await_payload(&payload(&id, 1));
            late_ms.push(now_ms() - due_ms);
        }
        stop.store(true, Ordering::Relaxed);
        late_ms
    });
    assert!(late_ms.iter().all(|late_ms| *late_ms < 5_000), "{late_ms:?}");
}

#[test]
fn whoever_has_no_token_sees_nothing_and_nobody_changes_a_read_only_instance() {
    let scene = Scene::new("api-token", 1);
    let settings = scene.settings().env("KMS_ADMIN__TOKEN", "secret").env("KMS_ADMIN__READ_ONLY", "true");
    let kms = Kms::start_ready(&settings);
    let ask = |method: &str, token: &str| {
        let headers = [("Authorization", token), ("Content-Type", "application/json")];
        let body = json!({"in": "1h", "topic": scene.destination}).to_string();
        http::request(kms.admin(), method, "/api/schedules/a", &headers, &body).unwrap().status
    };
    assert_eq!((ask("GET", ""), ask("GET", "Bearer wrong!"), ask("GET", "Bearer secret")), (401, 401, 404));
    assert_eq!((ask("PUT", "Bearer secret"), ask("DELETE", "Bearer secret")), (403, 403));
}

#[test]
fn any_id_can_be_addressed_and_comes_back_escaped() {
    let scene = Scene::new("api-ids", 1);
    let kms = Kms::start_ready(&scene.settings());
    let api = kms.admin();
    for (path, id) in [
        ("%3Cscript%3Ealert(1)%3C%2Fscript%3E", "<script>alert(1)</script>"),
        ("a%2Fb%3Fc%20d", "a/b?c d"),
        ("%C3%BC", "\u{fc}"),
        ("~_wA", "~_wA"), // the bytes ff 00
        ("~fng", "~fng"), // ~x
    ] {
        let body = json!({"in": "1h", "topic": scene.destination, "headers_text": {"<b>": "\"&"}});
        let (status, created) = ask(api, "PUT", &format!("/api/schedules/{path}"), Some(&body));
        assert_eq!((status, created["id"].as_str()), (200, Some(id)), "{created}");
        assert_eq!(get(api, &format!("/api/schedules/{path}")).1["headers"], json!({"<b>": "IiY="}));
    }
    let keys: BTreeSet<Vec<u8>> = {
        let written = scene.committed();
        written.into_iter().map(|seen| seen.key.unwrap()).collect()
    };
    assert!(
        keys.contains(&b"\xff\x00"[..]) && keys.contains(&b"~x"[..]) && keys.contains("\u{fc}".as_bytes())
    );
    assert_eq!(ids(&walk(api, "limit=2")).len(), 5);
}

/// That an answer has what its description says, and nothing else.
fn assert_as_described(document: &Value, schema: &str, answer: &Value) {
    let schema = &document["components"]["schemas"][schema];
    let described = schema["properties"].as_object().unwrap();
    let answer = answer.as_object().unwrap();
    for (name, value) in answer {
        assert!(described.contains_key(name), "{name} is not described");
        let mut property = &described[name];
        if let Some(reference) = property["$ref"].as_str() {
            property = document.pointer(reference.trim_start_matches('#')).unwrap();
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let is_right = match (&property["type"], &property["enum"], &property["const"]) {
            (Value::String(only), ..) => only == kind,
            (Value::Array(several), ..) => several.contains(&json!(kind)),
            (_, Value::Array(values), _) => values.contains(value),
            (.., constant) => constant == value,
        };
        assert!(is_right, "{name} is {value}, described as {property}");
    }
    for required in schema["required"].as_array().unwrap() {
        assert!(answer.contains_key(required.as_str().unwrap()), "{required} is missing");
    }
}

#[test]
fn what_is_described_is_there_and_looks_like_that() {
    let scene = Scene::new("api-described", 2);
    let kms = Kms::start_ready(&scene.settings());
    let api = kms.admin();
    let (status, document) = get(api, "/api/openapi.json");
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    let without_end = "/api/events";
    for (path, methods) in
        document["paths"].as_object().unwrap().iter().filter(|(path, _)| *path != without_end)
    {
        for method in methods.as_object().unwrap().keys() {
            let (status, answer) = ask(
                api,
                &method.to_uppercase(),
                &path.replace("{id}", "x").replace("{job}", "x"),
                Some(&json!({})),
            );
            let code = answer["code"].as_str().unwrap_or("done");
            assert!(
                status < 500 && !["no_such_path", "wrong_method"].contains(&code),
                "{method} {path}: {answer}"
            );
            let described = &document["paths"][path][method]["responses"];
            assert!(described[status.to_string()].is_object(), "{method} {path} answers {status}");
            if status >= 400 {
                assert_as_described(&document, "Error", &answer);
            }
        }
    }
    let body = json!({"in": "1h", "topic": scene.destination, "headers_text": {"a": "b"}});
    for id in ["one", "two"] {
        let created = ask(api, "PUT", &format!("/api/schedules/{id}"), Some(&body)).1;
        assert_as_described(&document, "Done", &created);
    }
    let page = get(api, "/api/schedules?limit=1").1;
    assert_as_described(&document, "Page", &page);
    assert_as_described(&document, "Coverage", &page["partitions"]);
    assert_as_described(&document, "Schedule", &page["schedules"][0]);
    assert_as_described(&document, "Schedule", &get(api, "/api/schedules/two").1);
    let partitions = get(api, "/api/partitions").1;
    assert_as_described(&document, "Partitions", &partitions);
    assert_as_described(&document, "Partition", &partitions["partitions"][0]);
    assert_as_described(&document, "Stats", &get(api, "/api/stats?over=1h").1);
    let outlook = get(api, "/api/due").1;
    assert_as_described(&document, "Outlook", &outlook);
    let (_, job) = ask(api, "POST", "/api/cancel", Some(&json!({"prefix": "one", "dry_run": false})));
    assert_as_described(&document, "CancelJob", &job);
    let lately = poll_until(PATIENCE, || {
        Some(get(api, "/api/history").1).filter(|lately| lately["events"][0].is_object())
    })
    .expect("it is cancelled");
    assert_as_described(&document, "Lately", &lately);
    assert_as_described(&document, "Event", &lately["events"][0]);
}

/// Runs a command against the API, a plus in an argument being a blank; gives its exit code, what it printed, and what it
/// complained of.
pub(crate) fn command(kms: &Kms, arguments: &str) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kms"))
        .args(arguments.split(' ').map(|argument| argument.replace('+', " ")))
        .env_clear()
        .env("KMS_ADMIN_URL", format!("http://{}", kms.admin()))
        .output()
        .unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), out, err)
}

#[test]
fn commands_show_and_change_what_is_pending() {
    let scene = Scene::new("api-commands", 1);
    let kms = Kms::start_ready(&scene.settings());
    let due_ms = now_ms() + 3_600_000;
    for n in 0..3 {
        let body = json!({"time": due_ms, "topic": scene.destination, "key_text": "k", "value_text": payload("a", n)});
        assert_eq!(ask(kms.admin(), "PUT", &format!("/api/schedules/cart%20{n}"), Some(&body)).0, 200);
    }
    let json_of =
        |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {text}"));

    let (code, table, _) = command(&kms, "list");
    assert_eq!((code, table.lines().count()), (Some(0), 4), "{table}");
    assert!(table.starts_with("ID ") && table.contains("cart 1 ") && table.contains(" pending"), "{table}");
    let (code, lines, _) = command(&kms, "list --all --json");
    assert_eq!((code, ids(&lines.lines().map(json_of).collect::<Vec<_>>()).len()), (Some(0), 3));
    let (_, table, said) = command(&kms, "list --limit 2");
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(said.contains("There are more"), "{said}");
    assert_eq!(command(&kms, "list --prefix nothing").1.lines().count(), 1);

    let shown = command(&kms, "get cart+1").1;
    assert!(shown.contains(&format!("value       {}", payload("a", 1))), "{shown}");
    assert_eq!(json_of(&command(&kms, "get cart+1 --json").1)["time"], json!(due_ms));
    assert_eq!(command(&kms, "reschedule cart+1 --in 2h").0, Some(0));
    assert!(get(kms.admin(), "/api/schedules/cart%201").1["time"].as_i64().unwrap() > due_ms);
    assert_eq!(command(&kms, "fire cart+2").0, Some(0));
    scene.await_payload(&payload("a", 2));

    let stats = command(&kms, "stats").1;
    assert!(stats.contains("pending") && stats.contains("due within 1h"), "{stats}");
    let partitions = command(&kms, "partitions").1;
    assert!(partitions.starts_with("PARTITION") && partitions.contains("live"), "{partitions}");

    for (arguments, status, said) in [
        ("get unknown", 1, "no schedule with the ID unknown is pending"),
        ("get ~*", 2, "no URL-safe base64"),
        ("list --schedule-topic none", 1, "does not serve that schedule topic"),
        ("stats --admin http://127.0.0.1:1", 1, "is an instance running there"),
        ("stats --admin ftp://127.0.0.1:1", 2, "begin with http://"),
    ] {
        let (code, _, error) = command(&kms, arguments);
        assert_eq!(code, Some(status), "{arguments}: {error}");
        assert!(error.contains(said), "{arguments}: {error}");
    }
}

/// For docs/benchmarks.md: `KMS_ASKED=1000000 ./test --release --test kafka -- --ignored --nocapture what_asking_costs`. With
/// `KMS_DASHBOARD=1` the tests of the dashboard run against that instance, too.
#[test]
#[ignore = "measures, on a machine with nothing else to do"]
fn what_asking_costs() {
    const PART: usize = 100_000;
    let _turn = alone();
    let pending: usize =
        std::env::var("KMS_ASKED").map_or(1_000_000, |count| count.parse().expect("a number"));
    let scene = Scene::new("asked", 4);
    let far_ms = now_ms() + 7 * 24 * 3_600_000;
    let id = |n: usize| format!("asked-{n}");
    for from in (0..pending).step_by(PART) {
        let numbers = from..pending.min(from + PART);
        scene
            .client
            .produce(&numbers.map(|n| scene.schedule(&id(n), 1, far_ms + n as i64)).collect::<Vec<_>>());
    }
    let kms = Kms::start_ready(&scene.settings());
    let api = kms.admin();
    let pages = |parameters: &str, most: usize| {
        let (mut took_ms, mut cursor) = (Vec::new(), Some(String::new()));
        while let Some(from) = cursor
            && took_ms.len() < most
        {
            let (ms, page) = timed(api, &format!("/api/schedules?{parameters}&cursor={from}"));
            took_ms.push(ms);
            cursor = page["next_cursor"].as_str().map(str::to_owned);
        }
        took_ms
    };
    println!("{pending} pending on 4 partitions");
    println!("| request | requests | p50, ms | p99, ms | most, ms | all, s |\n|---|---|---|---|---|---|");
    print_times("`limit=100`, page after page", pages("limit=100", 2_000));
    print_times("`limit=1000`, until all were given", pages("limit=1000", usize::MAX));
    print_times("a `prefix` that nothing has, until the end", pages("prefix=nothing", usize::MAX));
    let one = |n: usize| timed(api, &format!("/api/schedules/{}", id(n))).0;
    print_times("one schedule", (0..1_000).map(|n| one(n * pending / 1_000)).collect());
    print_times("an unknown ID", (0..500).map(|n| one(pending + n)).collect());
    let metrics = |_| {
        let started = Instant::now();
        kms.metrics();
        started.elapsed().as_secs_f64() * 1e3
    };
    print_times("`GET /metrics`", (0..50).map(metrics).collect());
    println!("| due to visible | schedules | p50, ms | p99, ms | most, ms | |\n|---|---|---|---|---|---|");
    print_times("nobody asks", lateness(&scene, "calm"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                pages("limit=1000", 100);
            }
        });
        print_times("one caller walks without a pause", lateness(&scene, "walked"));
        stop.store(true, Ordering::Relaxed);
    });
    let watchers: Vec<_> = (0..4).map(|_| watch(api)).collect();
    print_times("four watch events", lateness(&scene, "watched"));
    drop(watchers);
    if std::env::var("KMS_DASHBOARD").is_ok() {
        let tests = std::process::Command::new("node")
            .args(["--test", "--test-concurrency=1", "--test-timeout=180000"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dashboard"))
            .env("KMS_URL", format!("http://{api}/"))
            .env("KMS_DESTINATION", &scene.destination)
            .status();
        assert!(tests.unwrap().success(), "the dashboard");
    }
    let job = |dry_run: bool| {
        let started = Instant::now();
        let request = json!({"prefix": "asked-", "dry_run": dry_run});
        let (_, mut job) = ask(api, "POST", "/api/cancel", Some(&request));
        let path = format!("/api/cancel/{}", job["job"].as_str().unwrap());
        while job["state"] == "running" {
            std::thread::sleep(std::time::Duration::from_millis(20));
            job = get(api, &path).1;
        }
        (started.elapsed().as_secs_f64(), job)
    };
    let (counted_s, counted) = job(true);
    println!("{} counted in {counted_s:.2} s", counted["matched"]);
    std::thread::scope(|threads| {
        let cancelling = threads.spawn(|| job(false));
        print_times("many are cancelled", lateness(&scene, "beside"));
        let (cancelled_s, done) = cancelling.join().unwrap();
        println!("{} of {} cancelled in {cancelled_s:.2} s: {done}", done["cancelled"], done["matched"]);
    });
}

/// Somebody who reads events until this is dropped.
fn watch(api: SocketAddr) -> std::net::TcpStream {
    use std::io::{Read as _, Write as _};
    let stream = std::net::TcpStream::connect(api).unwrap();
    (&stream).write_all(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reading = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while reading.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    stream
}

/// The answer, and how long it took.
fn timed(api: SocketAddr, path: &str) -> (f64, Value) {
    let started = Instant::now();
    let answer = http::get(api, path).unwrap();
    let took_ms = started.elapsed().as_secs_f64() * 1e3;
    (took_ms, serde_json::from_str(&answer.body).unwrap())
}

/// From due to arrived, of two hundred schedules that are due one after the other.
fn lateness(scene: &Scene, name: &str) -> Vec<f64> {
    const COUNT: usize = 200;
    let first_ms = now_ms() + 1_000;
    let due_ms = |n: usize| first_ms + 100 * n as i64;
    let key = |n: usize| format!("{name}-{n}");
    scene.client.produce(&(0..COUNT).map(|n| scene.schedule(&key(n), 1, due_ms(n))).collect::<Vec<_>>());
    (0..COUNT)
        .map(|n| {
            let wanted = payload(&key(n), 1);
            scene.await_payload(&wanted);
            let arrived = scene.arrived();
            let it = arrived.iter().find(|seen| seen.value.as_deref() == Some(wanted.as_bytes()));
            (it.unwrap().arrived_ms - due_ms(n)) as f64
        })
        .collect()
}

fn print_times(what: &str, mut took_ms: Vec<f64>) {
    took_ms.sort_by(f64::total_cmp);
    let at = |percent: usize| took_ms[(took_ms.len() - 1) * percent / 100];
    let (count, all_s) = (took_ms.len(), took_ms.iter().sum::<f64>() / 1e3);
    println!("| {what} | {count} | {:.2} | {:.2} | {:.2} | {all_s:.2} |", at(50), at(99), at(100));
}

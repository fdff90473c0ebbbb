// Cancelling many at once. First they are only counted; who has seen the count, and types it, means it.

import { api } from "./dashboard-api.js";
import { announce } from "./dashboard-changes.js";
import { button, field, fill, h, openDialog, setText, trouble } from "./dashboard-dom.js";
import { count, percent } from "./dashboard-format.js";
import { localInput, momentOf } from "./dashboard-time.js";

const POLL_MS = 400;

/// Opens the dialog, with the filters of the list to begin with.
export function openCancelMany(filters) {
  let job = null;
  let changed = false;
  const { dialog, body } = openDialog("Cancel many schedules", { class: "form-dialog", closedby: "none" }, () => {
    // Nobody watches any more: what runs is stopped rather than left to itself.
    if (job?.state === "running") api.stopJob(job.job).catch(() => {});
    if (changed) announce(null);
  });
  askWhich(filters);

  function askWhich(which, error = null) {
    const prefix = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false", autocapitalize: "off", value: which.prefix ?? "" });
    const destination = h("input", { type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "off", value: which.destination ?? "" });
    const from = h("input", { type: "datetime-local", step: "1", value: localInput(which.from) });
    const to = h("input", { type: "datetime-local", step: "1", value: localInput(which.to) });
    const problem = h("div", {}, error && trouble(error));
    const submit = (event) => {
      event.preventDefault();
      if (prefix.value === "") {
        fill(problem, trouble(new Error("The beginning of the IDs is missing.")));
        prefix.focus();
        return;
      }
      countThem({ prefix: prefix.value, destination: destination.value || undefined, from: momentOf(from.value) ?? undefined, to: momentOf(to.value) ?? undefined });
    };
    fill(
      body,
      h(
        "form",
        { novalidate: true, on: { submit } },
        h("p", {}, "First they are counted. Nothing is cancelled by that."),
        field("ID begins with", prefix),
        field("Destination topic", destination, "Left empty: any."),
        h("div", { class: "pair" }, field("Due from", from), field("Due to", to)),
        problem,
        h("div", { class: "dialog-actions" }, button("Not now", () => dialog.close()), h("button", { type: "submit", class: "primary" }, "Count them")),
      ),
    );
    prefix.focus();
  }

  async function countThem(which) {
    const done = await watch({ ...which, dry_run: true }, "Counting. Nothing is cancelled.", which);
    if (!done) return;
    if (done.state !== "done") return ended(done, which);
    if (done.matched === 0) return nothing(done, which);
    confirm(done, which);
  }

  function nothing(done, which) {
    fill(
      body,
      h("p", { class: "job-result" }, h("strong", {}, "None matches."), ` ${count(done.looked_at)} were looked at.`),
      ...uncovered(done),
      h("div", { class: "dialog-actions" }, button("Other filters", () => askWhich(which)), button("Close", () => dialog.close(), { class: "primary" })),
    );
  }

  function confirm(done, which) {
    const typed = h("input", { type: "text", inputmode: "numeric", autocomplete: "off" });
    const submit = h("button", { type: "submit", class: "danger", disabled: true }, `Cancel ${count(done.matched)}`);
    typed.addEventListener("input", () => {
      submit.disabled = typed.value.replace(/[\s,.'’]/g, "") !== String(done.matched);
    });
    const go = async (event) => {
      event.preventDefault();
      if (submit.disabled) return;
      changed = true;
      const end = await watch({ ...which, dry_run: false }, "Cancelling.", which);
      if (end) ended(end, which);
    };
    fill(
      body,
      h(
        "form",
        { novalidate: true, on: { submit: go } },
        h("p", { class: "job-result" }, h("strong", { class: "figure-big" }, count(done.matched)), done.matched === 1 ? " schedule matches." : " schedules match."),
        h("p", {}, describe(which)),
        ...uncovered(done),
        h("p", {}, "Their messages will not be sent. This cannot be undone. Those that come to match meanwhile are cancelled too."),
        field(`To confirm, type ${count(done.matched)}`, typed),
        h("div", { class: "dialog-actions" }, button("Not now", () => dialog.close()), submit),
      ),
    );
    typed.focus();
  }

  /// Starts a job and shows how far it is, until it ends; `null` if the dialog was closed or it could not be started.
  async function watch(request, title, which) {
    const bar = h("progress", { max: "1", "aria-label": title });
    const far = h("p", { class: "note" }, "Beginning…");
    const problem = h("div", {});
    const stop = button("Stop", () => {
      stop.disabled = true;
      if (job) api.stopJob(job.job).catch((error) => fill(problem, trouble(error)));
    });
    fill(body, h("div", { class: "job" }, h("p", { role: "status" }, title), bar, far, problem, h("div", { class: "dialog-actions" }, stop)));
    stop.focus();
    job = null;
    try {
      job = await api.cancelMany(request);
    } catch (error) {
      askWhich(which, error);
      return null;
    }
    while (dialog.open) {
      bar.max = Math.max(job.to_look_at, 1);
      bar.value = job.looked_at;
      const cancelled = request.dry_run ? "" : `, ${count(job.cancelled)} cancelled`;
      setText(far, `${percent(job.looked_at, job.to_look_at)}: ${count(job.looked_at)} of ${count(job.to_look_at)} looked at, ${count(job.matched)} match${cancelled}`);
      if (job.state !== "running") return job;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      try {
        job = await api.cancelJob(job.job);
        fill(problem);
      } catch (error) {
        // It goes on over there; asking goes on here, unless the job is not known any more.
        fill(problem, trouble(error));
        if (error.status === 404) return { ...job, state: "failed", error: error.message };
      }
    }
    return null;
  }

  function ended(end, which) {
    const done = end.dry_run ? `${count(end.matched)} match so far, none was cancelled.` : `${count(end.cancelled)} cancelled.`;
    const heads = { done: "Done.", stopped: "Stopped.", failed: "Failed." };
    fill(
      body,
      h("p", { class: "job-result", role: "status" }, h("strong", {}, heads[end.state] ?? end.state), ` ${done}`),
      end.uncertain > 0 && h("p", { class: "warning" }, `Of ${count(end.uncertain)} it is not known whether they were cancelled. Look for them again.`),
      end.error && h("p", { class: "warning" }, end.error),
      ...uncovered(end),
      h("div", { class: "dialog-actions" }, button("Other filters", () => askWhich(which)), button("Close", () => dialog.close(), { class: "primary" })),
    );
    body.querySelector(".primary").focus();
  }
}

function describe({ prefix, destination, from, to }) {
  const parts = [`ID begins with ${prefix}`];
  if (destination) parts.push(`destination ${destination}`);
  if (from !== undefined) parts.push(`due from ${localInput(from).replace("T", " ")}`);
  if (to !== undefined) parts.push(`due until ${localInput(to).replace("T", " ")}`);
  return `${parts.join(", ")}.`;
}

function uncovered(job) {
  const missing = job.partitions?.missing ?? [];
  if (missing.length === 0) return [];
  return [h("p", { class: "warning" }, `Without ${missing.length === 1 ? "partition" : "partitions"} ${missing.map(({ partition }) => partition).join(", ")}: ${missing[0].why}. Ask the instances that own them, too.`)];
}

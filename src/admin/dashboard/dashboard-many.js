// Cancelling many: counted first, confirmed by the number, then followed to its end.

import { ask, get } from "./dashboard-api.js";
import { $, fromField, grouped } from "./dashboard-dom.js";

const LOOK_EVERY_MS = 300;

const state = { counted: 0, job: null };
let hasChanged = () => {};

export function start(changed) {
  hasChanged = changed;
  const form = formOf();
  $("cancel-many").addEventListener("click", open);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    count();
  });
  for (const name of ["prefix", "destination", "from", "to"]) form.elements[name].addEventListener("input", forget);
  form.elements.confirm.addEventListener("input", () => {
    $("many-go").disabled = form.elements.confirm.value.replaceAll(/[,\s]/g, "") !== String(state.counted);
  });
  // Enter in that field would count again.
  form.elements.confirm.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (!$("many-go").disabled) $("many-go").click();
  });
  $("many-go").addEventListener("click", cancel);
  $("many-stop").addEventListener("click", () => state.job && ask("DELETE", `/api/cancel/${state.job}`).catch(complain));
}

const formOf = () => $("many-dialog").querySelector("form");

function open() {
  formOf().reset();
  formOf().elements.prefix.value = $("search").elements.id.value.trim();
  formOf().elements.destination.value = $("search").elements.destination.value.trim();
  forget();
  $("many-dialog").showModal();
  formOf().elements.prefix.focus();
}

/** What was counted was something else. */
function forget() {
  $("many-result").textContent = "";
  $("many-confirm").hidden = true;
  $("many-go").hidden = true;
  $("many-count").hidden = false;
  $("many-progress").hidden = true;
  complain({ message: "" });
}

function complain(error) {
  formOf().querySelector(".bad-text").textContent = error.message;
}

function wanted(isDry) {
  const fields = formOf().elements;
  const body = { prefix: fields.prefix.value.trim(), dry_run: isDry };
  if (fields.destination.value.trim() !== "") body.destination = fields.destination.value.trim();
  const [from, to] = [fromField(fields.from.value), fromField(fields.to.value)];
  if (from !== undefined) body.from = from;
  if (to !== undefined) body.to = to;
  return body;
}

/** Starts a job and looks at it until it ends. */
async function follow(body) {
  let job = await ask("POST", "/api/cancel", { body });
  state.job = job.job;
  const progress = $("many-progress");
  progress.hidden = false;
  $("many-stop").hidden = false;
  try {
    while (job.state === "running") {
      progress.max = Math.max(1, job.to_look_at, job.looked_at);
      progress.value = job.looked_at;
      const done = job.dry_run ? "" : `, ${grouped(job.cancelled)} cancelled`;
      $("many-result").textContent = `looked at ${grouped(job.looked_at)} of ${grouped(job.to_look_at)}: ${grouped(job.matched)} match${done}`;
      await new Promise((resolve) => { setTimeout(resolve, LOOK_EVERY_MS); });
      job = await get(`/api/cancel/${job.job}`);
    }
  } finally {
    state.job = null;
    progress.hidden = true;
    $("many-stop").hidden = true;
  }
  if (job.error) throw new Error(job.error);
  return job;
}

const missing = (job) => (job.partitions.missing.length > 0 ? ` ${job.partitions.missing.length} partitions could not be looked at: other instances', or not live.` : "");

async function count() {
  forget();
  $("many-count").disabled = true;
  try {
    const job = await follow(wanted(true));
    state.counted = job.matched;
    const stopped = job.state === "stopped" ? " It was stopped before the end." : "";
    $("many-result").textContent = `${grouped(job.matched)} of ${grouped(job.looked_at)} schedules match.${stopped}${missing(job)}`;
    const isAny = job.matched > 0;
    $("many-confirm").hidden = !isAny;
    $("many-go").hidden = !isAny;
    $("many-go").disabled = true;
    $("many-go").textContent = `Cancel ${grouped(job.matched)}`;
    formOf().elements.confirm.value = "";
    if (isAny) formOf().elements.confirm.focus();
  } catch (error) {
    complain(error);
  } finally {
    $("many-count").disabled = false;
  }
}

async function cancel() {
  for (const id of ["many-confirm", "many-go", "many-count"]) $(id).hidden = true;
  try {
    const job = await follow(wanted(false));
    const uncertain = job.uncertain > 0 ? ` Of ${grouped(job.uncertain)} more it is not known.` : "";
    const stopped = job.state === "stopped" ? " It was stopped before the end." : "";
    $("many-result").textContent = `${grouped(job.cancelled)} cancelled.${uncertain}${stopped}${missing(job)}`;
    hasChanged(`${grouped(job.cancelled)} schedules are cancelled`);
  } catch (error) {
    complain(error);
  }
  $("many-count").hidden = false;
}

"use strict";
const at = (id) => document.getElementById(id);
let picture = null;

async function ask(task, question) {
  const address = `api/v1/${task}` + (question ? `?question=${encodeURIComponent(question)}` : "");
  const headers = { "Content-Type": picture.type || "application/octet-stream" };
  if (at("key").value) headers["X-API-Key"] = at("key").value;
  const answer = await fetch(address, { method: "POST", headers, body: picture });
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.detail || answer.statusText);
  return document;
}

function say(place, found) {
  at(place).textContent = found.text;
  if (found.confidence !== null) {
    const sure = document.createElement("span");
    sure.className = "sure";
    sure.textContent = `  (${found.confidence.toFixed(2)})`;
    at(place).append(sure);
  }
}

async function guarded(work) {
  at("problem").textContent = "";
  try {
    await work();
  } catch (error) {
    at("problem").textContent = error.message;
  }
}

function draw(bitmap, regions) {
  const canvas = at("picture");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.hidden = false;
  const pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0);
  pen.strokeStyle = "#2a7";
  pen.lineWidth = Math.max(2, bitmap.width / 400);
  for (const { box } of regions) {
    pen.beginPath();
    box.forEach(([x, y], corner) => (corner ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.closePath();
    pen.stroke();
  }
}

async function show(file) {
  picture = file;
  for (const place of ["caption", "answer", "text"]) at(place).textContent = "";
  await guarded(async () => {
    const bitmap = await createImageBitmap(file);
    draw(bitmap, []);
    at("ask").hidden = false;
    say("caption", await ask("caption"));
    const read = await ask("ocr");
    at("text").textContent = read.text;
    draw(bitmap, read.regions || []);
  });
}

at("file").addEventListener("change", (event) => event.target.files[0] && show(event.target.files[0]));
document.addEventListener("paste", (event) => event.clipboardData.files[0] && show(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
document.addEventListener("dragleave", () => at("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (event.dataTransfer.files[0]) show(event.dataTransfer.files[0]);
});
at("keys").addEventListener("submit", (event) => event.preventDefault());
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = at("question").value.trim();
  if (question && picture) guarded(async () => say("answer", await ask("vqa", question)));
});

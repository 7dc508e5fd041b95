// Sends the file, and shows how far its import is by the element of /progress/progress.js.
"use strict";
(() => {
  const campaign = location.pathname.split("/")[2];
  const [form] = document.forms;
  const file = document.getElementById("file");
  const problem = document.getElementById("problem");
  const progress = document.getElementById("import");
  const loaded = document.getElementById("loaded");

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = loaded.textContent = "";
    try {
      const answer = await fetch(`/campaigns/${campaign}/uploads`, { method: "POST", body: file.files[0] });
      const { detail, progress: address } = await answer.json();
      if (answer.ok) {
        progress.hidden = false;
        progress.setAttribute("src", address);
      } else problem.textContent = String(detail);
    } catch {
      problem.textContent = "The file was not sent. Try again.";
    }
  });

  progress.addEventListener("spoke-progress", async (event) => {
    if (event.detail.state !== "succeeded") return;
    const answer = await fetch(`/campaigns/${campaign}`);
    if (answer.ok) loaded.textContent = `The campaign has ${(await answer.json()).contacts} contacts.`;
  });
})();

// The boxes in the head, each of which turns something off. The browser keeps what somebody has chosen. What a box is
// for is in a script of its own, which shows it.
"use strict";
for (const box of document.querySelectorAll(".switches input")) {
  const stored = `spoke-jobs-${box.id}`;
  try {
    box.checked = localStorage.getItem(stored) !== "no";
  } catch {
    box.checked = true; // the browser keeps nothing
  }
  box.addEventListener("change", () => {
    try {
      localStorage.setItem(stored, box.checked ? "yes" : "no");
    } catch {
      // It holds for this page only.
    }
  });
}

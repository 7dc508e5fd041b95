// Tells the server in which time zone the reader is. Without this file, pages have times in UTC.
"use strict";
(() => {
  const { cookie, path } = document.currentScript.dataset;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const isSet = () => document.cookie.split("; ").includes(`${cookie}=${zone}`);
  if (!zone || isSet()) return;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${cookie}=${zone}; Path=${path}; Max-Age=31536000; SameSite=Lax${secure}`;
  if (isSet()) document.dispatchEvent(new Event("spoke-jobs:zone")); // the server did not know it for this page
})();

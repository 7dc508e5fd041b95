"""The dashboard in a real browser. Chromium and one process of `spoke-jobs web` serve all tests of this folder."""

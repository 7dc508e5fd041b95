"""The runners: what happens to a job or a task once it is dispatched. ``protocol`` says what makes a runner one."""

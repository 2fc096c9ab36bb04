// Package doctor owns the checks of a host: what can be wrong with it, how that is seen, and what mends it.
//
// A check is a value. It says what it looks at; when it is run it says what it saw, what follows from that, and
// the cure. Its state is OK only if it looked and found nothing: where it could not look it is unknown, with the cause,
// and where there is nothing to look at it says why. It blames only what it has looked at.
//
// Checks get what they need from outside as functions and values, so that a test can make each misconfiguration. The
// checks of an agent that runs are made by internal/checkup; those that need no agent are also made by the command line, when
// the agent does not run or does not answer.
//
// To add a check: write a function in a file of its own that returns a Check; add its name to Names, in the order in
// which it is shown; put it into the list of internal/checkup; describe it in docs/doctor.md (a test compares). It
// imports internal/adminapi for the form of results and store for the records of hosts; it must not know
// the data plane, Docker's client or a store's implementation.
package doctor

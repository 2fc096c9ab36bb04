// Package users shows what users meet on hosts as fresh as theirs: Docker has never run a container, there is no
// docker_gwbridge, and the agents run with the defaults of a package. One file per kind of trouble; a test names the public
// reports that it covers (tracker and number).
//
// Tests whose names begin with TestCore run on the current engine, too, in `make test`; the whole package runs on Debian's.
// It owns only the labs that it starts. It may import test/lab and internal/testenv; it must not know SocketPlane's
// internals, only what Docker, the host and the command line show.
package users

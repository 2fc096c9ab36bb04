// Package setup owns the service of the agent on a host with systemd: its units and what belongs to them, how they get there without a
// package, and how they go again. The packages carry the same files (packaging/nfpm.yaml).
//
// It may import the standard library only. It knows neither settings nor what the agent does: bridge, links and state are not its own.
package setup

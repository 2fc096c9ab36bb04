package ovsctl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/ovn-org/libovsdb/model"

	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/vswitch"
)

// Datapaths, as OVSDB's Bridge.datapath_type has them.
const (
	DatapathSystem = "system" // the kernel's
	DatapathNetdev = "netdev" // in user space
)

// Info is what Open vSwitch says of itself. All is zero while there is no connection.
type Info struct {
	OVSVersion    string   // "" if ovs-vswitchd was started without ovs-ctl, which writes it; see [Switch.Version]
	DatapathTypes []string // what this ovs-vswitchd was built with, sorted; not what the kernel has
	Datapath      string   // of our bridge: DatapathSystem, DatapathNetdev, or "" without a bridge
	TSO           bool     // user-space segmentation offload, as set when this ovs-vswitchd was first seen
	// KernelDatapath says that our bridge forwards in the kernel.
	KernelDatapath bool
	SystemID       string // of this host, by whoever installed Open vSwitch
}

// vswitchd is what is known of the daemon. OVSDB does not tell when it dies or restarts, but it
// listens on our bridge's management socket, and it copies next_cfg to cur_cfg after each change.
type vswitchd struct {
	down   error     // nil while it runs as far as known
	id     process   // the last that was seen
	cfg    int       // cur_cfg when it was last looked at
	tso    bool      // at that time
	seen   bool      // tso is set
	behind time.Time // since when cur_cfg stands still below next_cfg; zero if it is level
	probed time.Time // when next_cfg was last raised to see whether it follows
}

// process identifies one run of ovs-vswitchd with our bridge, which has a new socket when it is made
// anew: its flows are lost then too.
type process struct {
	pid   int // 0 if it is in a PID namespace that we can't see
	inode uint64
}

// Ready is nil when the copy of the database is in sync and ovs-vswitchd runs, as far as is known.
// Else the error wraps ErrNotConnected and says what to do. A dead ovs-vswitchd is noticed after one
// second, or after up to four if it removed its socket or our bridge does not exist yet.
func (s *Switch) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		return s.notConnected()
	}
	return s.vswitchd.down
}

// notConnected says why there is no session. s.mu is held.
func (s *Switch) notConnected() error {
	return fmt.Errorf("%w at %s: %w: start it (systemctl start openvswitch-switch), or openvswitch on RPM-based hosts", ErrNotConnected, s.endpoint, s.cause)
}

// Info returns what is known now.
func (s *Switch) Info() Info {
	v, err := s.view()
	if err != nil || v.root == nil {
		return Info{}
	}
	s.mu.Lock()
	tso := s.vswitchd.tso
	s.mu.Unlock()
	i := Info{DatapathTypes: slices.Sorted(slices.Values(v.root.DatapathTypes)), TSO: tso, SystemID: v.root.ExternalIDs["system-id"]}
	if v.root.OVSVersion != nil {
		i.OVSVersion = *v.root.OVSVersion
	}
	if v.bridge != nil {
		i.Datapath = datapath(v.bridge.DatapathType)
		i.KernelDatapath = i.Datapath == DatapathSystem
	}
	return i
}

// versionPatience bounds the question to the switch: it is for people, who have better things to do.
const versionPatience = time.Second

// Version is Open vSwitch's. Where ovs-ctl has not written it into the database, as it does on packages' hosts only, the switch is asked; "" if it does not answer.
func (s *Switch) Version(ctx context.Context) string {
	if v := s.Info().OVSVersion; v != "" {
		return v
	}
	ctx, cancel := context.WithTimeout(ctx, versionPatience)
	defer cancel()
	conn, err := openflow.Dial(ctx, s.MgmtPath())
	if err != nil {
		return ""
	}
	defer conn.Close()
	software, err := conn.Software(ctx)
	if err != nil {
		return ""
	}
	return software
}

// datapath gives the default its name.
func datapath(column string) string {
	if column == "" {
		return DatapathSystem
	}
	return column
}

// look finds out whether ovs-vswitchd runs, and whether it is another one than before.
func (s *Switch) look(ctx context.Context, n *session) {
	v := s.viewOf(n)
	var id process
	var err error
	if v.root != nil && v.bridge != nil {
		id, err = s.find(ctx)
	}
	s.mu.Lock()
	was, before := s.vswitchd.down, s.vswitchd.id
	probe := s.judge(v, id, err)
	now, after := s.vswitchd.down, s.vswitchd.id
	s.mu.Unlock()
	if (was == nil) != (now == nil) || before != after {
		s.log.Info("ovs-vswitchd changed", "pid", after.pid, "error", now)
		s.news.note(nil, nil)
		s.announce(true)
	}
	if probe {
		ask := initialise()
		if v.root != nil {
			ask = v.touch()
		}
		// The answer shows in the database, to a later look; an error is a lost session or another
		// agent that was faster.
		_, _ = s.transact(ctx, n, ask)
	}
}

// judge draws the conclusion from the database and the management socket, and says whether the
// database must be given something to react to for a better one. s.mu is held.
func (s *Switch) judge(v *view, id process, dialed error) (probe bool) {
	d, now := &s.vswitchd, time.Now()
	if v.root == nil {
		d.down = s.notRunning("it has nothing to go by in an empty database")
		return true
	}
	tso := v.root.OtherConfig["userspace-tso-enable"] == "true"
	if !d.seen || id != (process{}) && d.id != id && d.id != (process{}) {
		d.tso, d.seen = tso, true
	}
	switch {
	case v.root.CurCfg >= v.root.NextCfg:
		d.behind = time.Time{}
	case d.behind.IsZero() || d.cfg != v.root.CurCfg: // with change after change it is never level, but it moves
		d.behind = now
	}
	switch {
	case id != (process{}) && !d.behind.IsZero() && now.Sub(d.behind) > hangLimit:
		d.id, d.down = id, s.notRunning("it hangs: its socket is there, but it does not take up changes of the database")
	case id != (process{}):
		d.id, d.down = id, nil
	case len(v.root.DatapathTypes) == 0:
		d.down = s.notRunning("it never wrote to this database")
	case errors.Is(dialed, syscall.ECONNREFUSED):
		d.down = s.notRunning(dialed.Error())
	case !d.behind.IsZero() && now.Sub(d.behind) > behindLimit:
		d.down = s.notRunning("it does not take up changes of the database")
	case d.behind.IsZero() && (v.bridge == nil || !d.probed.IsZero() || d.cfg != v.root.CurCfg):
		d.down = nil
	}
	d.cfg = v.root.CurCfg
	if id != (process{}) || v.bridge == nil {
		d.probed = time.Time{}
		return false
	}
	// No socket: it has exited, or it could not make the bridge. Only an exited one does not follow.
	if d.behind.IsZero() && now.Sub(d.probed) > waitLimit {
		d.probed = now
		return true
	}
	return false
}

func (s *Switch) notRunning(why string) error {
	return fmt.Errorf("%w at %s: ovs-vswitchd is not running (%s): start it (systemctl start openvswitch-switch), or openvswitch on RPM-based hosts",
		ErrNotConnected, s.endpoint, why)
}

// find tells which process serves our bridge. It connects only when that may have changed: an
// ovs-vswitchd logs a warning for every connection that closes without a word.
func (s *Switch) find(ctx context.Context) (process, error) {
	s.mu.Lock()
	known := s.vswitchd.id
	s.mu.Unlock()
	inode, err := inodeOf(s.MgmtPath())
	if err != nil {
		return process{}, err
	}
	if s.handle != nil && known.inode == inode && !errors.Is(s.handle.Signal(syscall.Signal(0)), os.ErrProcessDone) {
		return known, nil
	}
	if s.handle != nil {
		_ = s.handle.Release()
		s.handle = nil
	}
	pid, err := serverOf(ctx, s.MgmtPath())
	if err != nil {
		return process{}, err
	}
	if pid > 0 {
		// The handle is good for this process only, even when the pid comes again.
		if s.handle, err = os.FindProcess(pid); err != nil {
			s.handle = nil
		}
	}
	return process{pid: pid, inode: inode}, nil
}

func inodeOf(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s: no inode", path)
	}
	return st.Ino, nil
}

// serverOf is the pid of the process that listens on a unix socket.
func serverOf(ctx context.Context, path string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, vswitchdInterval)
	defer cancel()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Pid), nil
}

// events sorts the rows that changed; libovsdb calls it from one goroutine and wants it quick.
type events struct{ s *Switch }

func (e *events) OnAdd(_ string, row model.Model)         { e.take(nil, row) }
func (e *events) OnUpdate(_ string, old, row model.Model) { e.take(old, row) }
func (e *events) OnDelete(_ string, row model.Model)      { e.take(row, nil) }

func (e *events) take(old, row model.Model) {
	e.s.counts.events.Add(1)
	ours := false
	var ports, bridges []string
	for _, r := range []model.Model{old, row} {
		switch r := r.(type) {
		case *vswitch.OpenvSwitch:
			ours = rootMoved(old, row)
			if ours || e.s.Ready() != nil {
				signal(e.s.kick)
			}
		case *vswitch.Bridge:
			bridges = append(bridges, r.Name)
			if r.Name == e.s.bridge {
				ours = true
				signal(e.s.kick)
			}
		case *vswitch.Port:
			ports = append(ports, r.Name)
			ours = ours || marked(r.ExternalIDs)
		case *vswitch.Interface:
			ports = append(ports, r.Name)
			ours = ours || marked(r.ExternalIDs)
		}
	}
	if ours || len(ports)+len(bridges) > 0 { // else next_cfg or cur_cfg moved
		e.s.news.note(ports, bridges)
	}
	e.s.announce(ours)
}

// rootMoved ignores next_cfg and cur_cfg, which every change on the host moves.
func rootMoved(old, row model.Model) bool {
	a, _ := old.(*vswitch.OpenvSwitch)
	b, _ := row.(*vswitch.OpenvSwitch)
	return a == nil || b == nil || !maps.Equal(a.OtherConfig, b.OtherConfig) || !maps.Equal(a.ExternalIDs, b.ExternalIDs) ||
		!sameSet(a.Bridges, b.Bridges) || !sameSet(a.DatapathTypes, b.DatapathTypes)
}

func marked(externalIDs map[string]string) bool {
	_, ok := externalIDs[MarkKey]
	return ok
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

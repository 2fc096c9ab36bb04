package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const ovsSchema = "/usr/share/openvswitch/vswitch.ovsschema"

// startOVS starts both daemons, and makes br-und on hosts that have it.
func (h *Host) startOVS(ctx context.Context) error {
	if err := h.StartOVSDB(ctx); err != nil {
		return err
	}
	if err := h.initOVSDB(ctx); err != nil {
		return err
	}
	return h.StartVSwitch(ctx)
}

// initOVSDB writes what a package's start script writes into a new database.
func (h *Host) initOVSDB(ctx context.Context) error {
	// user-space segmentation is read by ovs-vswitchd once, at its start.
	tso := "other_config:userspace-tso-enable=false"
	if h.lab.opts.Tunnel != TunnelOVS && !kernelDatapath() {
		tso = "other_config:userspace-tso-enable=true"
	}
	_, err := h.Exec(ctx, "ovs-vsctl", "--timeout=30", "--no-wait", "--", "init", "--", "set", "Open_vSwitch", ".", tso,
		"external_ids:system-id="+h.Name, "external_ids:hostname="+h.Name)
	return err
}

// StartOVSDB starts the switch's database, and makes it where there is none.
func (h *Host) StartOVSDB(ctx context.Context) error {
	db := filepath.Join(h.Dir, "etc/openvswitch/conf.db")
	if _, err := os.Stat(db); err != nil {
		if _, err := run(ctx, "ovsdb-tool", "create", db, ovsSchema); err != nil {
			return err
		}
	}
	p, err := h.daemon("ovsdb-server", nil, "ovsdb-server", "/etc/openvswitch/conf.db",
		"--remote=punix:/run/openvswitch/db.sock", "--pidfile=/run/openvswitch/ovsdb-server.pid", "-vconsole:info")
	if err != nil {
		return err
	}
	h.ovsdb = p
	if err := p.Start(); err != nil {
		return err
	}
	return h.await(ctx, "ovsdb-server", p, func() bool { return h.Listening("openvswitch/db.sock") })
}

// EmptyOVSDB restarts the switch's database without its content, as somebody does who removes its file; the switch runs on, with nothing.
// What the operating system's configuration has in it comes back: br-und, on hosts that have it.
func (h *Host) EmptyOVSDB(ctx context.Context) error {
	h.ovsdb.Stop(10 * time.Second)
	if err := os.Remove(filepath.Join(h.Dir, "etc/openvswitch/conf.db")); err != nil {
		return fmt.Errorf("empty the database of %s: %w", h.Name, err)
	}
	if err := h.StartOVSDB(ctx); err != nil {
		return err
	}
	if err := h.initOVSDB(ctx); err != nil {
		return err
	}
	if h.lab.opts.Tunnel == TunnelOVS {
		return h.moveNIC(ctx)
	}
	return nil
}

// StartVSwitch starts the switch and waits until it has taken over its configuration.
func (h *Host) StartVSwitch(ctx context.Context) error {
	p, err := h.daemon("ovs-vswitchd", nil, "ovs-vswitchd", "unix:/run/openvswitch/db.sock",
		"--pidfile=/run/openvswitch/ovs-vswitchd.pid", "-vconsole:info")
	if err != nil {
		return err
	}
	h.vswitchd = p
	if err := p.Start(); err != nil {
		return err
	}
	ready := func() bool {
		probe, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := h.Exec(probe, "ovs-appctl", "-T", "2", "-t", "ovs-vswitchd", "version")
		return err == nil
	}
	if err := h.await(ctx, "ovs-vswitchd", p, ready); err != nil {
		return err
	}
	// ovs-vsctl answers when the switch has done what the database says.
	if _, err := h.Exec(ctx, "ovs-vsctl", "--timeout=60", "set", "Open_vSwitch", ".", "external_ids:lab="+h.lab.opts.Name); err != nil {
		return err
	}
	if h.lab.opts.Tunnel == TunnelOVS {
		return h.moveNIC(ctx)
	}
	return nil
}

// moveNIC puts eth0 into br-und. After a restart of the switch it gives br-und its addresses again, as that device is new.
func (h *Host) moveNIC(ctx context.Context) error {
	mac, err := h.Exec(ctx, "cat", "/sys/class/net/eth0/address")
	if err != nil {
		return err
	}
	_, err = h.Exec(ctx, "ovs-vsctl", "--timeout=60", "--may-exist", "add-br", "br-und", "--",
		"set", "Bridge", "br-und", "datapath_type=netdev", fmt.Sprintf("other_config:hwaddr=%q", mac[:17]), "--",
		"--may-exist", "add-port", "br-und", "eth0")
	if err != nil {
		return err
	}
	return h.address(ctx, "br-und")
}

// RestartOVS restarts database and switch as a package upgrade does: both end, both start.
func (h *Host) RestartOVS(ctx context.Context) error {
	h.vswitchd.Stop(10 * time.Second)
	h.ovsdb.Stop(10 * time.Second)
	if err := h.StartOVSDB(ctx); err != nil {
		return err
	}
	return h.StartVSwitch(ctx)
}

// KillVSwitch ends ovs-vswitchd as a crash would; StartVSwitch starts it again.
func (h *Host) KillVSwitch() { h.vswitchd.Kill() }

// KillOVSDB ends ovsdb-server as a crash would; StartOVSDB starts it again.
func (h *Host) KillOVSDB() { h.ovsdb.Kill() }

// kernelDatapath says whether this machine's kernel has Open vSwitch's datapath loaded: then nobody sets what is for
// user space.
func kernelDatapath() bool {
	_, err := os.Stat("/sys/module/openvswitch")
	return err == nil
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// Plugin is what the managed plugin costs a host without Open vSwitch.
type Plugin struct {
	Rounds  int
	Machine Machine
	// Size is its root file system, Packed the same as registries keep it, in MiB.
	Size, Packed float64
	// Answer is from the beginning of docker plugin enable to the first answered call of Docker's protocol, Enable until that command ends; ms.
	Answer, Enable Series
	// Memory is what its processes need at rest.
	Memory []Part
}

// Part is a program's resident memory in MiB.
type Part struct {
	Name string
	MiB  float64
}

// settled is how long the plugin has been at rest when its memory is read.
const settled = 20 * time.Second

// MeasurePlugin takes the figures of the managed plugin only. It needs root.
func MeasurePlugin(ctx context.Context, opts Options) (*Plugin, error) {
	w := &world{opts: opts.complete(), began: time.Now()}
	return w.plugin(ctx)
}

// plugin measures in a lab of its own.
func (w *world) plugin(ctx context.Context) (p *Plugin, err error) {
	w.say("the managed plugin on a host without Open vSwitch")
	p = &Plugin{Rounds: w.opts.Rounds, Machine: machine(ctx)}
	l, err := lab.Start(ctx, lab.Options{Name: w.opts.Prefix + "p", Hosts: 1, NoOVS: true, NoAgent: true, Consul: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	dir := filepath.Join(l.Dir(), "plugin")
	if err := lab.BuildPlugin(ctx, dir); err != nil {
		return nil, err
	}
	if p.Size, p.Packed, err = sizes(ctx, filepath.Join(dir, "rootfs")); err != nil {
		return nil, err
	}
	h := l.Hosts[0]
	if err := h.CreatePlugin(ctx, dir); err != nil {
		return nil, err
	}
	for round := range w.opts.Rounds {
		if round > 0 {
			if _, err := h.Docker(ctx, "plugin", "disable", lab.PluginName); err != nil {
				return nil, err
			}
		}
		if err := p.start(ctx, h); err != nil {
			return nil, err
		}
	}
	if err := h.WaitPluginReady(ctx); err != nil {
		return nil, err
	}
	select {
	case <-time.After(settled):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return p, p.readMemory(ctx, h)
}

// start enables the plugin once and takes the times.
func (p *Plugin) start(ctx context.Context, h *lab.Host) error {
	answer, enable, err := h.TimePlugin(ctx)
	p.Answer, p.Enable = append(p.Answer, milli(answer)), append(p.Enable, milli(enable))
	return err
}

// sizes measures a directory as it is, and packed.
func sizes(ctx context.Context, dir string) (size, packed float64, err error) {
	const mib = 1 << 20
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += float64(info.Size()) / mib
		}
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	out, err := exec.CommandContext(ctx, "sh", "-c", `tar -C "$1" -cz . | wc -c`, "sh", dir).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("pack the plugin: %w", err)
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	return size, n / mib, err
}

// readMemory finds the plugin's processes: the host runs no others of their names.
func (p *Plugin) readMemory(ctx context.Context, h *lab.Host) error {
	names := []string{"socketplane", "ovs-vswitchd", "ovsdb-server"}
	out, err := h.Exec(ctx, "sh", "-c", `for d in /proc/[0-9]*; do echo "$(cat $d/comm 2>/dev/null) $(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' $d/status 2>/dev/null)"; done`)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		name, kib, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseFloat(kib, 64)
		if err == nil && slices.Contains(names, name) {
			p.Memory = append(p.Memory, Part{name, n / 1024})
		}
	}
	if len(p.Memory) != len(names) {
		return fmt.Errorf("the plugin's processes are %v, want %v", p.Memory, names)
	}
	slices.SortFunc(p.Memory, func(a, b Part) int { return slices.Index(names, a.Name) - slices.Index(names, b.Name) })
	return nil
}

// pluginTitle begins the section of the page that a run of its own may replace.
const pluginTitle = "## Managed plugin\n"

// Replace writes the plugin's section anew into a page.
func (p *Plugin) Replace(page string) (string, error) {
	return replaceSection(page, pluginTitle, "plugin", p)
}

// replaceSection writes one section anew, or before the last one if there is none yet.
func replaceSection(page, title, template string, data any) (string, error) {
	var section strings.Builder
	if err := write(&section, template, data); err != nil {
		return "", err
	}
	head, old, found := strings.Cut(page, title)
	if !found {
		head, old, _ = strings.Cut(page, "## Reading\n")
		return head + section.String() + "## Reading\n" + old, nil
	}
	_, rest, _ := strings.Cut(old, "\n## ")
	return head + section.String() + "## " + rest, nil
}

// RewritePage reads a page, replaces a section and writes it.
func RewritePage(path string, replace func(page string) (string, error)) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	page, err := replace(string(old))
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/test/vm/spec"
)

// mounted is one mount, whose directory is made.
type mounted struct {
	source, target, kind string
	flags                uintptr
	data                 string
	optional             bool
}

func mountAll(mounts []mounted) error {
	for _, m := range mounts {
		err := os.MkdirAll(m.target, 0o755)
		if err == nil {
			err = unix.Mount(m.source, m.target, m.kind, m.flags, m.data)
		}
		if err != nil && !m.optional {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// kernelMounts are what every Linux has.
func kernelMounts(root string) []mounted {
	return []mounted{
		{"dev", root + "/dev", "devtmpfs", 0, "", false},
		{"proc", root + "/proc", "proc", 0, "", false},
		{"sys", root + "/sys", "sysfs", 0, "", false},
	}
}

// buildRoot makes the machine's file system the root: read-only, with memory on top for what is written. Places where
// overlay mounts must be possible (images, labs) are memory alone, as an overlay can't be on an overlay.
func buildRoot(s spec.Spec) error {
	const lower, memory, root = "/lower", "/memory", "/root"
	// The command's own machine may change files meanwhile; nobody here waits for that.
	const share = "trans=virtio,version=9p2000.L,msize=512000,cache=loose"
	err := mountAll([]mounted{
		{spec.RootTag, lower, "9p", unix.MS_RDONLY, share, false},
		{"memory", memory, "tmpfs", 0, "size=75%,mode=755", false},
	})
	if err != nil {
		return err
	}
	for _, dir := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(memory, dir), 0o755); err != nil {
			return err
		}
	}
	overlay := "lowerdir=" + lower + ",upperdir=" + memory + "/upper,workdir=" + memory + "/work"
	mounts := append([]mounted{{"root", root, "overlay", 0, overlay, false}}, kernelMounts(root)...)
	mounts = append(mounts, []mounted{
		{"shm", root + "/dev/shm", "tmpfs", 0, "mode=1777", false},
		{"pts", root + "/dev/pts", "devpts", 0, "gid=5,mode=620,ptmxmode=666", false},
		{"cgroup", root + "/sys/fs/cgroup", "cgroup2", 0, "nsdelegate", false},
		{"bpf", root + "/sys/fs/bpf", "bpf", 0, "", true},
		{"run", root + "/run", "tmpfs", 0, "mode=755", false},
		{"tmp", root + "/tmp", "tmpfs", 0, "mode=1777,size=75%", false},
		{"tmp", root + "/var/tmp", "tmpfs", 0, "mode=1777,size=75%", false},
		{"docker", root + "/var/lib/docker", "tmpfs", 0, "mode=711,size=75%", false},
		{root + s.ModuleTree, root + "/lib/modules/" + s.Release, "", unix.MS_BIND, "", false},
	}...)
	if s.Out {
		mounts = append(mounts, mounted{spec.OutTag, root + spec.OutDir, "9p", 0, "trans=virtio,version=9p2000.L,msize=512000", false})
	}
	if err := mountAll(mounts); err != nil {
		return err
	}
	for _, dir := range []string{"/run/lock", "/run/netns"} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			return err
		}
	}
	return enter(root)
}

// enter makes a mount the root. The initial RAM disk can't be pivoted away, so it is covered.
func enter(root string) error {
	return errors.Join(unix.Chdir(root), unix.Mount(root, "/", "", unix.MS_MOVE, ""), unix.Chroot("."), unix.Chdir("/"))
}

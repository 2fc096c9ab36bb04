// Guest is the first process of the test VM: it builds a root out of the machine's file system, runs one command in
// it, and powers off.
//
// It owns everything inside the VM, and must know nothing of SocketPlane. It is static, and alone in the initial RAM
// disk but for a few modules: there is no shell before the machine's own.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/test/vm/spec"
)

// failed is the exit status when the VM itself did not work, as the host program has it, too.
const failed = 125

func main() {
	status, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm guest:", err) // the console
	}
	_ = report(status) // without it the host says that there was no status
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Fprintln(os.Stderr, "vm guest: power off:", err)
	}
	select {} // a first process that ends is a panic
}

func run() (int, error) {
	text, err := os.ReadFile(spec.File)
	if err != nil {
		return failed, err
	}
	var s spec.Spec
	if err := json.Unmarshal(text, &s); err != nil {
		return failed, err
	}
	if err := mountAll(kernelMounts("")); err != nil {
		return failed, err
	}
	for _, m := range s.Modules {
		if err := load(filepath.Join(spec.ModuleDir, m)); err != nil {
			return failed, err
		}
	}
	if err := buildRoot(s); err != nil {
		return failed, err
	}
	if err := unix.Sethostname([]byte("vm")); err != nil {
		return failed, err
	}
	if err := loopbackUp(); err != nil {
		return failed, fmt.Errorf("loopback: %w", err)
	}
	return execute(s)
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// execute runs the command. Its clocks begin at a minute: ovs-vswitchd 3.1 counts no CPUs, and so starts no thread for
// upcalls, while the monotonic clock is below ten seconds, and every first packet would be lost.
func execute(s spec.Spec) (int, error) {
	out, err := port(spec.OutputPort)
	if err != nil {
		return failed, err
	}
	defer out.Close()
	argv := append([]string{"/usr/bin/unshare", "--time", "--fork", "--monotonic", "60", "--boottime", "60", "--"}, s.Argv...)
	null, err := os.Open(os.DevNull)
	if err != nil {
		return failed, err
	}
	if _, err := os.Stat(s.Dir); err != nil {
		s.Dir = "/" // a checkout below /tmp can't be seen in here
	}
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Dir: s.Dir, Env: s.Env, Files: []*os.File{null, out, out}})
	if err != nil {
		return failed, err
	}
	// The first process inherits all orphans.
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return failed, fmt.Errorf("wait for the command: %w", err)
		case pid == p.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == p.Pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		}
	}
}

func report(status int) error {
	f, err := port(spec.StatusPort)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, status)
	return errors.Join(err, f.Close())
}

// port opens a virtio serial port by its name. It is there a moment after its driver.
func port(name string) (*os.File, error) {
	deadline, tick := time.After(10*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		dirs, err := filepath.Glob("/sys/class/virtio-ports/*")
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			text, err := os.ReadFile(filepath.Join(dir, "name"))
			if err != nil || strings.TrimSpace(string(text)) != name {
				continue
			}
			if f, err := os.OpenFile("/dev/"+filepath.Base(dir), os.O_WRONLY, 0); err == nil {
				return f, nil
			}
		}
		select {
		case <-deadline:
			return nil, fmt.Errorf("the serial port %s does not appear", name)
		case <-tick.C:
		}
	}
}

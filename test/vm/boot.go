package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/vm/spec"
)

// emulator is Debian's name of qemu for this architecture.
const emulator = "qemu-system-x86_64"

// kernelArguments make the kernel quiet, and quick under emulation: no protection from neighbours that it has not, no
// checks of clocks and ciphers. Panics end the VM.
const kernelArguments = "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr init_on_alloc=0 tsc=reliable " +
	"no_timer_check nowatchdog cryptomgr.notests random.trust_cpu=on audit=0 apparmor=0 rcupdate.rcu_expedited=1 8250.nr_uarts=1"

// consoleLines of the VM's console are shown when it did not work.
const consoleLines = 20

// boot runs the VM to its end, passes its output on and returns the command's exit status.
func boot(ctx context.Context, o Options, k kernel, dir string) (int, error) {
	if _, err := exec.LookPath(emulator); err != nil {
		return Failed, fmt.Errorf("%s is missing: run test/tools/install.sh vm: %w", emulator, err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	console := filepath.Join(dir, "console")
	args, err := arguments(o, k, dir, console)
	if err != nil {
		return Failed, err
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return Failed, err
	}
	defer outRead.Close()
	cmd := exec.Command(emulator, args...)
	cmd.ExtraFiles = []*os.File{outWrite} // its descriptor 3
	cmd.Stderr = os.Stderr
	// A terminal's ^C comes by way of ctx. The signal at the parent's death is one at its thread's death.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	if err = errors.Join(err, outWrite.Close()); err != nil {
		return Failed, err
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(o.Stdout, outRead)
		copied <- err
	}()
	stopped := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() }) // or it has just ended by itself
	defer stopped()
	err = errors.Join(cmd.Wait(), <-copied)
	text, readErr := os.ReadFile(statusFile(dir))
	status, parseErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err = errors.Join(context.Cause(ctx), err, readErr, parseErr); err != nil || status == Failed {
		return Failed, fmt.Errorf("the VM did not end by itself: %w; its console:\n%s", err, testenv.TailFile(console, consoleLines))
	}
	return status, nil
}

func statusFile(dir string) string { return filepath.Join(dir, "status") }

func arguments(o Options, k kernel, dir, console string) ([]string, error) {
	args := []string{
		"-machine", "q35,usb=off", "-accel", "tcg,thread=multi,tb-size=512",
		"-cpu", "max,la57=off", // five levels of page tables are slow to emulate
		"-smp", strconv.Itoa(o.CPUs), "-m", strconv.Itoa(o.Memory) + "M",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "file:" + console,
		"-kernel", k.image, "-initrd", filepath.Join(dir, "initrd"), "-append", kernelArguments,
		"-device", "virtio-serial-pci",
		"-chardev", "file,id=output,path=/dev/fd/3", "-device", "virtserialport,chardev=output,name=" + spec.OutputPort,
		"-chardev", "file,id=status,path=" + statusFile(dir), "-device", "virtserialport,chardev=status,name=" + spec.StatusPort,
	}
	args = append(args, share(spec.RootTag, "/", ",readonly=on")...)
	if o.Out != "" {
		out, err := filepath.Abs(o.Out)
		if err != nil {
			return nil, err
		}
		args = append(args, share(spec.OutTag, out, "")...)
	}
	return args, nil
}

// share gives a directory of this machine to the VM.
func share(tag, dir, more string) []string {
	return []string{
		"-fsdev", "local,id=" + tag + ",path=" + dir + ",security_model=none,multidevs=remap" + more,
		"-device", "virtio-9p-pci,fsdev=" + tag + ",mount_tag=" + tag,
	}
}

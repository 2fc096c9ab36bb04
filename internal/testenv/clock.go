package testenv

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The machine's clock is everybody's: time namespaces have no clock of their own for the time of day, and static programs
// load no library that lies. But every program reads the time through code that the kernel maps into it, the
// vDSO, and each has its own copy as soon as it is written to. So a process's clock is set by replacing that code: it
// asks the kernel, and adds an offset to the time of day. The monotonic clock stays, as it does when a real clock is set.

// realtimeStub is clock_gettime(edi, rsi) on amd64 with an offset in seconds for CLOCK_REALTIME, which is number 0.
func realtimeStub(offset time.Duration) []byte {
	code := []byte{
		0x56,                         // push rsi
		0x57,                         // push rdi
		0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x5f,       // pop rdi
		0x5e,       // pop rsi
		0x85, 0xff, // test edi, edi
		0x75, 0x0d, // jne to the end
		0x48, 0xb9, // mov rcx, the offset
	}
	code = binary.LittleEndian.AppendUint64(code, uint64(int64(offset/time.Second)))
	return append(code, 0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3) // ret
}

// stops bounds the wait for a process that is being stopped: each of its threads needs a core for that.
const stops = 10 * time.Second

// SetClock sets a process's time of day off from the machine's. It stands still for a moment meanwhile.
func SetClock(ctx context.Context, pid int, offset time.Duration) error {
	if pid == 0 {
		return nil // it has died: the next one's clock is right
	}
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("set the clock of process %d: only known for amd64", pid)
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return gone(err)
	}
	defer mem.Close()
	start, end, err := vdso(pid)
	if err != nil {
		return gone(err)
	}
	code := realtimeStub(offset)
	at, err := clockFunction(mem, start, end, len(code))
	if err != nil {
		return fmt.Errorf("set the clock of process %d: %w", pid, err)
	}
	var last error
	err = Poll(ctx, 5*time.Millisecond, func() bool {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			last = gone(err)
			return true
		}
		defer resume(ctx, pid)
		free, err := outside(ctx, pid, start, end)
		if err != nil || !free {
			last = err
			return err != nil
		}
		_, last = mem.WriteAt(code, at)
		return true
	})
	return errors.Join(err, last)
}

// resume lets a stopped process go on, and its parent if that is a wrapper which stops itself with its child: it does so
// for certain, but in its own time.
func resume(ctx context.Context, pid int) {
	ctx, cancel := context.WithTimeout(ctx, stops)
	defer cancel()
	if parent := statField(pid, 1); parent != "" {
		name, err := os.ReadFile("/proc/" + parent + "/comm")
		if id, bad := strconv.Atoi(parent); err == nil && bad == nil && slices.Contains([]string{"nsenter", "unshare"}, strings.TrimSpace(string(name))) {
			_ = Poll(ctx, time.Millisecond, func() bool { return statField(id, 0) == "T" })
			_ = syscall.Kill(id, syscall.SIGCONT) // it may end by itself in this moment
		}
	}
	_ = syscall.Kill(pid, syscall.SIGCONT)
}

// statField is a field of proc(5)'s stat behind the name: 0 is the state, 1 the parent.
func statField(pid, n int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name is in brackets, and may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if n >= len(fields) {
		return ""
	}
	return fields[n]
}

// gone forgives that a process has ended.
func gone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// vdso is where the kernel's code lies in a process.
func vdso(pid int) (start, end uint64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			_, err = fmt.Sscanf(line, "%x-%x", &start, &end)
			return start, end, err
		}
	}
	return 0, 0, fmt.Errorf("process %d has no vDSO", pid)
}

// clockFunction finds the function that all programs call.
func clockFunction(mem *os.File, start, end uint64, need int) (int64, error) {
	image := make([]byte, end-start)
	if _, err := mem.ReadAt(image, int64(start)); err != nil {
		return 0, err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, err
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			if s.Size < uint64(need) {
				return 0, fmt.Errorf("%s has %d bytes, %d are needed", s.Name, s.Size, need)
			}
			return int64(start + s.Value), nil
		}
	}
	return 0, errors.New("the vDSO has no clock_gettime")
}

// outside says whether all threads have stopped, and none within the code that is to be replaced.
func outside(ctx context.Context, pid int, start, end uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, stops)
	defer cancel()
	free := false
	err := Poll(ctx, time.Millisecond, func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		if err != nil {
			return false
		}
		free = true
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			fields := strings.Fields(string(text))
			if err != nil {
				continue // a thread that has ended
			}
			if len(fields) < 3 {
				return false // "running"
			}
			pc, err := strconv.ParseUint(strings.TrimPrefix(fields[len(fields)-1], "0x"), 16, 64)
			if err != nil {
				return false
			}
			free = free && (pc < start || pc >= end)
		}
		return true
	})
	return free, err
}

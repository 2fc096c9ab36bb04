package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// kernelPackage always depends on the package of Debian's current kernel.
const kernelPackage = "linux-image-amd64"

// kernel is an unpacked kernel.
type kernel struct {
	release string
	image   string // uncompressed, an ELF file
	modules string // the directory with modules.dep
}

// findKernel unpacks Debian's current kernel below dir, unless that was done; nothing is installed.
func findKernel(ctx context.Context, dir string) (kernel, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return kernel{}, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return kernel{}, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return kernel{}, fmt.Errorf("lock %s: %w", dir, err)
	}
	name, err := currentPackage(ctx)
	if err != nil {
		return kernel{}, err
	}
	tree := filepath.Join(dir, name)
	k := kernel{release: strings.TrimPrefix(name, "linux-image-"), image: filepath.Join(tree, "vmlinux")}
	k.modules = filepath.Join(tree, "lib", "modules", k.release)
	if _, err := os.Stat(k.image); err == nil {
		return k, nil
	}
	if err := unpack(ctx, name, tree); err != nil {
		return kernel{}, err
	}
	if _, err := output(ctx, "", "depmod", "-b", tree, k.release); err != nil {
		return kernel{}, err
	}
	// The image comes last: it says that all else is there.
	return k, extract(ctx, filepath.Join(tree, "boot", "vmlinuz-"+k.release), k.image)
}

func currentPackage(ctx context.Context) (string, error) {
	text, err := output(ctx, "", "apt-cache", "depends", kernelPackage)
	if err != nil {
		return "", err
	}
	for _, word := range strings.Fields(text) {
		if strings.HasPrefix(word, "linux-image-") && word != kernelPackage {
			return word, nil
		}
	}
	return "", fmt.Errorf("apt knows no %s: run apt-get update", kernelPackage)
}

func unpack(ctx context.Context, name, tree string) error {
	if err := os.RemoveAll(tree); err != nil {
		return err
	}
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	if _, err := output(ctx, tree, "apt-get", "download", "-qq", name); err != nil {
		return fmt.Errorf("%w: if the package has vanished from the mirror, run apt-get update", err)
	}
	debs, err := filepath.Glob(filepath.Join(tree, "*.deb"))
	if err != nil || len(debs) != 1 {
		return errors.Join(fmt.Errorf("%d packages in %s, not one", len(debs), tree), err)
	}
	if _, err := output(ctx, "", "dpkg-deb", "-x", debs[0], tree); err != nil {
		return err
	}
	return os.Remove(debs[0])
}

// Places in the header of a bzImage (the kernel's Documentation/arch/x86/boot.rst).
const (
	setupSectors  = 0x1f1
	payloadOffset = 0x248
	payloadLength = 0x24c
	sector        = 512
)

// decompressors by the first bytes of what they decompress.
var decompressors = []struct {
	magic string
	argv  []string
}{
	{"\xfd7zXZ", []string{"xz", "-dc", "--single-stream"}},
	{"\x28\xb5\x2f\xfd", []string{"zstd", "-dc"}},
	{"\x02\x21\x4c\x18", []string{"lz4", "-dc"}},
	{"\x1f\x8b", []string{"gzip", "-dc"}},
}

// extract takes the ELF kernel out of a bzImage: the emulated machine would need long to decompress it by itself.
func extract(ctx context.Context, bzImage, to string) error {
	image, err := os.ReadFile(bzImage)
	if err != nil {
		return err
	}
	if len(image) < payloadLength+4 {
		return fmt.Errorf("%s is no kernel image", bzImage)
	}
	start := (uint64(image[setupSectors])+1)*sector + uint64(binary.LittleEndian.Uint32(image[payloadOffset:]))
	end := start + uint64(binary.LittleEndian.Uint32(image[payloadLength:]))
	if end > uint64(len(image)) {
		return fmt.Errorf("%s is cut off", bzImage)
	}
	payload := image[start:end]
	for _, d := range decompressors {
		if !bytes.HasPrefix(payload, []byte(d.magic)) {
			continue
		}
		cmd := exec.CommandContext(ctx, d.argv[0], d.argv[1:]...)
		cmd.Stdin = bytes.NewReader(payload)
		elf, err := cmd.Output()
		// Some complain about the four bytes of length behind the payload.
		if !bytes.HasPrefix(elf, []byte("\x7fELF")) {
			return fmt.Errorf("decompress %s with %s: %w", bzImage, d.argv[0], errors.Join(err, errors.New("no ELF file came out")))
		}
		if err := os.WriteFile(to+".new", elf, 0o644); err != nil {
			return err
		}
		return os.Rename(to+".new", to)
	}
	return fmt.Errorf("%s is compressed in an unknown way", bzImage)
}

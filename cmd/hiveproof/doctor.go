package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/hiveproof/hiveproof/provision/image"
	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/provision/qemu"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/spf13/cobra"
)

func newDoctorCommand(g *globals) *cobra.Command {
	f := &labFlags{}
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this machine can do, and what is missing", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{g: g, flags: f}
			if err := d.examine(cmd.Context()); err != nil {
				return err
			}
			if d.bad > 0 {
				return exitStatus(reports.ExitLab)
			}
			return nil
		},
	}
	f.register(cmd)
	return cmd
}

// doctor prints findings, one a line: ok, note (works, but), or missing.
type doctor struct {
	g     *globals
	flags *labFlags
	bad   int
}

func (d *doctor) ok(what, format string, args ...any) {
	fmt.Printf("ok       %-10s %s\n", what, fmt.Sprintf(format, args...))
}

func (d *doctor) note(what, format string, args ...any) {
	fmt.Printf("note     %-10s %s\n", what, fmt.Sprintf(format, args...))
}

func (d *doctor) missing(what, format string, args ...any) {
	d.bad++
	fmt.Printf("MISSING  %-10s %s\n", what, fmt.Sprintf(format, args...))
}

func (d *doctor) examine(ctx context.Context) error {
	top, err := d.flags.load()
	if err != nil {
		return err
	}
	cache, err := d.g.cache()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return fmt.Errorf("make the cache directory: %w", err)
	}
	d.ok("cpus", "%d", runtime.NumCPU())
	d.packages()
	store, spec, err := lab.Images(cache, d.flags.release, d.flags.mirror)
	var img *image.Image
	if err != nil {
		d.missing("agent", "%v", err)
	} else if img, err = store.Lookup(spec); err == nil {
		d.ok("image", "%s, Debian %s, docker %s", img.Key, img.Content["debian"], img.Content["docker.io"])
	} else {
		d.note("image", "not built yet: the first run builds it in a few minutes (or now: hiveproof image build)")
	}
	d.acceleration(ctx, cache, img)

	need := lab.NeedMiB(top)
	available, err := lab.AvailableMemoryMiB()
	switch {
	case err != nil:
		return err
	case available < need:
		d.missing("memory", "%d MiB available, %d hosts take %d MiB: give them less in a topology file", available, len(top.Hosts), need)
	default:
		d.ok("memory", "%d MiB available, %d hosts take %d MiB", available, len(top.Hosts), need)
	}
	free, err := image.FreeBytes(cache)
	switch {
	case err != nil:
		return err
	case free < image.MinFreeBytes:
		d.missing("disk", "%s free in %s, building an image takes %s", units.BytesSize(float64(free)), cache, units.BytesSize(image.MinFreeBytes))
	default:
		d.ok("disk", "%s free in %s", units.BytesSize(float64(free)), cache)
	}
	return nil
}

// packages looks for the external programs.
func (d *doctor) packages() {
	var missing []string
	for program, pkg := range image.Programs {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, pkg)
		}
	}
	if _, err := qemu.Version(context.Background()); err != nil {
		missing = append(missing, qemu.Package)
	}
	if os.Getuid() != 0 {
		if _, err := exec.LookPath("newuidmap"); err != nil {
			missing = append(missing, "uidmap")
		}
	}
	if len(missing) == 0 {
		d.ok("programs", "all installed")
		return
	}
	slices.Sort(missing)
	install := "apt-get install --no-install-recommends " + strings.Join(slices.Compact(missing), " ")
	if os.Getuid() != 0 {
		install = "sudo " + install
	}
	d.missing("programs", "%s", install)
}

// acceleration proves KVM by booting, and says what it means.
func (d *doctor) acceleration(ctx context.Context, cache string, img *image.Image) {
	version, err := qemu.Version(ctx)
	if err != nil {
		return // said already
	}
	d.ok("qemu", "%s", version)
	kernel, initrd := "", ""
	if img != nil {
		kernel, initrd = img.Kernel, img.Initrd
	}
	proof, err := qemu.ProveAccel(ctx, cache, kernel, initrd)
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		d.missing("kvm", "%v", err)
	case proof.Accel == qemu.KVM:
		d.ok("kvm", "%s: hosts boot in seconds", proof.Reason)
	default:
		d.note("kvm", "%s: QEMU's own emulation (TCG) is used, which is some ten times slower; three hosts come up in minutes", proof.Reason)
	}
}

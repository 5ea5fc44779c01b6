package e2e

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dswarm "github.com/docker/docker/api/types/swarm"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/provision/qemu"
	"github.com/hiveproof/hiveproof/provision/state"
	"github.com/hiveproof/hiveproof/provision/swarm"
	"github.com/hiveproof/hiveproof/provision/topology"
)

// TestOneHost boots a single machine with an additional disk, presses all of its
// buttons, and lets a service fail to converge on it.
func TestOneHost(t *testing.T) {
	needVMs(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	binary, err := filepath.Abs("../bin/hiveproof-agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HIVEPROOF_AGENT", binary)
	cache, err := state.DefaultCachePath()
	if err != nil {
		t.Fatal(err)
	}
	store, spec, err := lab.Images(cache, "", "")
	if err != nil {
		t.Fatal(err)
	}
	image, err := store.Lookup(spec)
	if err != nil {
		t.Fatalf("%v: TestSuite builds it", err)
	}
	proof, err := qemu.ProveAccel(ctx, cache, image.Kernel, image.Initrd)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := dir.NewLedger("one-host")
	if err != nil {
		t.Fatal(err)
	}
	top, err := topology.Parse("one.yml", []byte("hosts:\n  - disk: 9GiB\n    disks: [64MiB]\n"))
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := qemu.Up(ctx, qemu.Config{Topology: top, Image: image, Accel: proof.Accel, Dir: t.TempDir(), Ledger: ledger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(cluster.Close(), ledger.Close()); err != nil {
			t.Error(err)
		}
	})
	host := cluster.Hosts()[0]
	power := host.(provision.PowerControl)
	run := func(command string) string {
		t.Helper()
		out, err := host.Run(ctx, command, nil)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	bootID := func() string { return run("cat /proc/sys/kernel/random/boot_id") }

	if size := run("blockdev --getsize64 /dev/vdb; df -BG --output=size / | tail -1"); !strings.HasPrefix(size, "67108864") || !strings.Contains(size, "9G") {
		t.Errorf("disks: %q, want one of 64 MiB beside a root file system of 9G", size)
	}
	first := bootID()
	run("echo kept > /root/kept && sync")

	if err := power.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	paused, stop := context.WithTimeout(ctx, 2*time.Second)
	if out, err := host.Run(paused, "true", nil); err == nil {
		t.Errorf("a paused machine answers: %q", out)
	}
	stop()
	if err := power.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if got := bootID(); got != first {
		t.Errorf("boot ID %s after a pause, %s before: it was started anew", got, first)
	}

	if err := power.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	off, stop := context.WithTimeout(ctx, 2*time.Second)
	if _, err := host.Run(off, "true", nil); err == nil {
		t.Error("a machine without power answers")
	}
	stop()
	if err := power.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	second := bootID()
	if kept := run("cat /root/kept"); second == first || kept != "kept" {
		t.Errorf("after power off and on: boot ID %s (before %s), file %q", second, first, kept)
	}
	if err := power.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if got := bootID(); got == second {
		t.Error("the boot ID is the same after a reset")
	}
	if lines := host.(provision.ConsoleReader).ConsoleTail(5); len(lines) == 0 {
		t.Error("the console is empty")
	}
	notConverging(ctx, t, cluster)
}

// notConverging deploys a service whose image is nowhere.
func notConverging(ctx context.Context, t *testing.T, cluster provision.Cluster) {
	s, err := swarm.Form(ctx, cluster.Hosts(), swarm.Options{Managers: map[string]bool{"hive0": true}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Create(ctx, []dswarm.ServiceSpec{{
		Annotations:  dswarm.Annotations{Name: "nowhere"},
		TaskTemplate: dswarm.TaskSpec{ContainerSpec: &dswarm.ContainerSpec{Image: "hiveproof/nowhere:1"}},
	}}); err != nil {
		t.Fatal(err)
	}
	err = s.WaitConverged(ctx, []string{"nowhere"}, 40*time.Second, nil)
	var not *swarm.NotConvergedError
	if !errors.As(err, &not) {
		t.Fatalf("got %v, want a NotConvergedError", err)
	}
	if !strings.Contains(err.Error(), "nowhere: 0 of 1 tasks run") || !strings.Contains(err.Error(), "No such image") {
		t.Errorf("the reason is not shown: %v", err)
	}
	t.Log(err)
	if err := s.Remove(ctx, []string{"nowhere"}, time.Minute); err != nil {
		t.Error(err)
	}
}

// Package suite holds containerd's own suite for snapshotters against `stratafs snapshotter`, a process for each of its tests.
package suite

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	api "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// start runs a snapshotter with directories of its own, and connects to it as containerd does.
func start(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	socket := filepath.Join(root, "sock")
	process := exec.Command(os.Getenv("STRATAFS"), "snapshotter", "--root", filepath.Join(root, "snapshotter"),
		"--store", filepath.Join(root, "store"), "--address", socket)
	process.Stderr = os.Stderr
	if err := process.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() error {
		_ = process.Process.Signal(os.Interrupt)
		return process.Wait()
	}
	for tries := 0; ; tries++ {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if tries == 400 {
			_ = stop()
			return nil, nil, fmt.Errorf("the snapshotter does not listen at %s", socket)
		}
		time.Sleep(25 * time.Millisecond)
	}
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		_ = stop()
		return nil, nil, err
	}
	cleanup := func() error {
		_ = connection.Close()
		return stop()
	}
	return proxy.NewSnapshotter(api.NewSnapshotsClient(connection), "stratafs"), cleanup, nil
}

func TestSuite(t *testing.T) {
	if os.Getenv("STRATAFS") == "" {
		t.Fatal("STRATAFS names no program: tests/containerd/suite.sh runs this")
	}
	// What is unpacked is mounted by the kernel's overlayfs, and renames directories as that does.
	testsuite.SnapshotterSuite(t, "overlayfs", start)
}

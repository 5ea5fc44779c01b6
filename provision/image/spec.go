// Package image builds the disk that every host of a lab starts from, out of
// Debian packages, and keeps what it built in a content-addressed cache.
//
// An image has three layers. The base is a Debian root file system made by
// mmdebstrap, with its kernel and a minimal initial RAM disk. The two on top of it
// are sealed by booting them once and letting their own Docker engine load
// container images, so that no host ever imports them: the software layer those of
// package software, the node layer the agent's, which change more often.
package image

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"

	"github.com/hiveproof/hiveproof/provision/software"
)

//go:embed guest
var guestFiles embed.FS

// The defaults of a Spec.
const (
	DefaultRelease = "trixie"
	DefaultMirror  = "http://deb.debian.org/debian"
	// DiskGiB is the virtual size of an image's disk; hosts may have larger ones.
	DiskGiB = 8
)

// packages is what a node of a hive-builder site needs, beyond Debian's minimum.
var packages = []string{
	"busybox-static", "ca-certificates", "dbus", "docker.io", "docker-cli", "drbd-utils", "e2fsprogs", "haproxy", "iproute2",
	"iptables", "iputils-ping", "ipvsadm", "kmod", "linux-image-cloud-amd64", "lvm2", "nfs-common", "nfs-kernel-server",
	"openssh-server", "procps", "systemd-sysv", "udev", "xfsprogs",
}

// notIn are packages that a release does not have (Debian 12 has docker's client in docker.io).
var notIn = map[string][]string{"bookworm": {"docker-cli"}}

// Spec is the recipe of an image: everything that its content depends on.
type Spec struct {
	Release string // Debian release by code name, such as "trixie"
	Mirror  string // URL of the Debian mirror that the packages come from
	// AgentArchive is the docker-load archive that the node layer's engine loads,
	// and AgentDigest its content's digest.
	AgentArchive, AgentDigest string
}

var releaseName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// Check says what in the spec cannot be.
func (s Spec) Check() error {
	if !releaseName.MatchString(s.Release) {
		return fmt.Errorf("release %q: want a Debian code name such as %s", s.Release, DefaultRelease)
	}
	if u, err := url.Parse(s.Mirror); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("mirror %q: want a URL such as %s", s.Mirror, DefaultMirror)
	}
	return nil
}

func (s Spec) packages() []string {
	return slices.DeleteFunc(slices.Clone(packages), func(p string) bool { return slices.Contains(notIn[s.Release], p) })
}

// sealVersion changes when what sealing does to the node layer changes.
const sealVersion = 3

// BaseKey names the base layer by everything that it is made of. The mirror is
// not among it: mirrors of one release hold the same packages.
func (s Spec) BaseKey() (string, error) {
	h := sha256.New()
	enc := json.NewEncoder(h)
	if err := enc.Encode([]any{"base", s.Release, DiskGiB, s.packages(), mke2fsOptions}); err != nil {
		return "", fmt.Errorf("compute the image key: %w", err)
	}
	err := fs.WalkDir(guestFiles, "guest", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := guestFiles.ReadFile(path)
		if err != nil {
			return err
		}
		return enc.Encode([]string{path, string(text)})
	})
	if err != nil {
		return "", fmt.Errorf("compute the image key: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// SoftwareKey names the software layer.
func (s Spec) SoftwareKey() (string, error) {
	base, err := s.BaseKey()
	if err != nil {
		return "", err
	}
	images, err := software.Digest()
	if err != nil {
		return "", err
	}
	return digest("software %s %s %d", base, images, sealVersion), nil
}

// Key names the whole image.
func (s Spec) Key() (string, error) {
	below, err := s.SoftwareKey()
	if err != nil {
		return "", err
	}
	return digest("node %s %s %d", below, s.AgentDigest, sealVersion), nil
}

func digest(format string, args ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, format, args...))
	return hex.EncodeToString(sum[:])[:16]
}

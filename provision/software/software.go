// Package software makes container images of the real software that the guide's
// recipes name, from Debian packages and without a registry: PowerDNS with its
// MySQL backend, MariaDB and nginx. They share one layer, a root file system that
// mmdebstrap builds, and differ in how they start.
package software

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/hiveproof/hiveproof/provision/agentimage"
)

//go:embed files
var files embed.FS

// Packages are the Debian packages of the shared layer.
var Packages = []string{"mariadb-server", "nginx-light", "pdns-backend-mysql", "pdns-server"}

// Image is one of the images.
type Image struct {
	Tag     string // such as "hiveproof/powerdns:debian"
	Package string // whose version is the software's
	Listens []agentimage.Listen
	Volumes []string // paths that are a volume unless something is mounted there
	start   string   // file that starts it
}

// Images are those that an archive holds.
func Images() []Image {
	return []Image{
		{Tag: "hiveproof/powerdns:debian", Package: "pdns-server", start: "powerdns.sh",
			Listens: []agentimage.Listen{{App: "dns", Port: 53, Proto: "udp"}, {App: "dns", Port: 53, Proto: "tcp"}}},
		{Tag: "hiveproof/mariadb:debian", Package: "mariadb-server", start: "mariadb.sh", Volumes: []string{"/var/lib/mysql"},
			Listens: []agentimage.Listen{{App: "mysql", Port: 3306, Proto: "tcp"}}},
		{Tag: "hiveproof/nginx:debian", Package: "nginx-light", start: "nginx.sh",
			Listens: []agentimage.Listen{{App: "http", Port: 80, Proto: "tcp"}, {App: "https", Port: 443, Proto: "tcp"}}},
	}
}

// format changes when the archive made of the same files changes.
const format = 1

// Digest names the archive by everything that it is made of.
func Digest() (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode([]any{format, Packages, Images()}); err != nil {
		return "", fmt.Errorf("name the software's images: %w", err)
	}
	entries, err := files.ReadDir("files")
	if err != nil {
		return "", fmt.Errorf("name the software's images: %w", err)
	}
	for _, e := range entries {
		text, err := files.ReadFile("files/" + e.Name())
		if err != nil {
			return "", fmt.Errorf("name the software's images: %w", err)
		}
		fmt.Fprintf(h, "%s %d\n%s", e.Name(), len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// WriteFiles writes what mmdebstrap's hook needs into a directory and returns the
// hook's path.
func WriteFiles(dir string) (hook string, err error) {
	entries, err := files.ReadDir("files")
	if err != nil {
		return "", fmt.Errorf("write the software's files: %w", err)
	}
	for _, e := range entries {
		text, err := files.ReadFile("files/" + e.Name())
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, e.Name()), text, 0o755)
		}
		if err != nil {
			return "", fmt.Errorf("write the software's files: %w", err)
		}
	}
	return filepath.Join(dir, "customize.sh"), nil
}

// versionsFile is where the hook writes the packages' versions.
const versionsFile = "usr/lib/hiveproof/versions"

// Versions reads the packages' versions, by name, out of a root file system's tar.
func Versions(rootTar string) (map[string]string, error) {
	fail := func(err error) (map[string]string, error) {
		return nil, fmt.Errorf("read the software's versions: %w", err)
	}
	file, err := os.Open(rootTar)
	if err != nil {
		return fail(err)
	}
	defer file.Close()
	entries := tar.NewReader(file)
	for {
		h, err := entries.Next()
		if err != nil {
			return fail(fmt.Errorf("%s: %w", versionsFile, err))
		}
		if strings.TrimPrefix(h.Name, "./") != versionsFile {
			continue
		}
		versions := map[string]string{}
		lines := bufio.NewScanner(entries)
		for lines.Scan() {
			if name, version, ok := strings.Cut(lines.Text(), " "); ok {
				versions[name] = version
			}
		}
		if err := lines.Err(); err != nil {
			return fail(err)
		}
		return versions, nil
	}
}

// Write makes the docker-load archive of a root file system's tar.
func Write(rootTar, archive string) error {
	content, err := os.ReadFile(rootTar)
	if err != nil {
		return fmt.Errorf("make the software's images: %w", err)
	}
	// Not compressed: unpacking under emulation takes longer than reading.
	layer := static.NewLayer(content, types.DockerUncompressedLayer)
	images := map[name.Tag]v1.Image{}
	for _, i := range Images() {
		tag, err := name.NewTag(i.Tag)
		if err == nil {
			images[tag], err = i.of(layer)
		}
		if err != nil {
			return fmt.Errorf("make image %s: %w", i.Tag, err)
		}
	}
	if err := tarball.MultiWriteToFile(archive, images); err != nil {
		return errors.Join(fmt.Errorf("write the software's images: %w", err), os.Remove(archive))
	}
	return nil
}

func (i Image) of(layer v1.Layer) (v1.Image, error) {
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = "amd64", "linux"
	config.Config = v1.Config{
		Entrypoint:   []string{"/usr/lib/hiveproof/" + i.start},
		Env:          []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"},
		ExposedPorts: map[string]struct{}{},
	}
	for _, l := range i.Listens {
		config.Config.ExposedPorts[fmt.Sprintf("%d/%s", l.Port, l.Proto)] = struct{}{}
	}
	for _, v := range i.Volumes {
		if config.Config.Volumes == nil {
			config.Config.Volumes = map[string]struct{}{}
		}
		config.Config.Volumes[v] = struct{}{}
	}
	return mutate.ConfigFile(img, config)
}

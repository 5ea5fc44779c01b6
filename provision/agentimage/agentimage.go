// Package agentimage makes container images of the agent, without an engine or
// a registry: one archive in docker-load format with a tag for each kind of
// image that the agent stands in for.
package agentimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Binary is the agent's path inside its images.
const Binary = "/hiveproof-agent"

// program is the file that FindBinary looks for.
const program = "hiveproof-agent"

// Listen is a port that an image listens on.
type Listen struct {
	App   string // what is spoken: dns, http or echo
	Port  int
	Proto string // tcp or udp
}

// Tag is one of the agent's images.
type Tag struct {
	Name    string // such as "hiveproof/agent:dns"
	Role    string // what it stands in for
	Listens []Listen
}

// Tags are the agent's images. A container's ports are known from here; no
// engine has to be asked.
func Tags() []Tag {
	return []Tag{
		{Name: "hiveproof/agent:dns", Role: "dns", Listens: []Listen{{"dns", 53, "udp"}, {"dns", 53, "tcp"}}},
		{Name: "hiveproof/agent:http", Role: "web", Listens: []Listen{{"http", 80, "tcp"}}},
		{Name: "hiveproof/agent:mariadb", Role: "database", Listens: []Listen{{"echo", 3306, "tcp"}}},
	}
}

// FindBinary looks for the agent's binary: $HIVEPROOF_AGENT, else beside this program.
func FindBinary() (string, error) {
	if path := os.Getenv("HIVEPROOF_AGENT"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("HIVEPROOF_AGENT: %w", err)
		}
		return path, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the agent: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), program)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the agent's binary is not beside this program (%s): make build makes both, or set HIVEPROOF_AGENT", path)
	}
	return path, nil
}

// format changes when the archive made of one binary changes.
const format = 1

// Digest names the archive that Build makes of a binary, without making it.
func Digest(binary string) (string, error) {
	file, err := os.Open(binary)
	if err != nil {
		return "", fmt.Errorf("read the agent: %w", err)
	}
	defer file.Close()
	h := sha256.New()
	fmt.Fprintf(h, "%d %v\n", format, Tags())
	if _, err := io.Copy(h, file); err != nil {
		return "", fmt.Errorf("read the agent: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Build writes the archive. The same binary gives the same bytes. It takes its
// name only when it is complete.
func Build(binary, archive string) error {
	layer, err := layerOf(binary)
	if err != nil {
		return fmt.Errorf("make the agent's image: %w", err)
	}
	images := map[name.Tag]v1.Image{}
	for _, t := range Tags() {
		tag, err := name.NewTag(t.Name)
		if err != nil {
			return fmt.Errorf("make the agent's image %s: %w", t.Name, err)
		}
		if images[tag], err = imageOf(t, layer); err != nil {
			return fmt.Errorf("make the agent's image %s: %w", t.Name, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		return fmt.Errorf("make the agent's image: %w", err)
	}
	temp := fmt.Sprintf("%s.%d.part", archive, os.Getpid())
	if err := tarball.MultiWriteToFile(temp, images); err != nil {
		return errors.Join(fmt.Errorf("write the agent's images: %w", err), remove(temp))
	}
	if err := os.Rename(temp, archive); err != nil {
		return errors.Join(fmt.Errorf("write the agent's images: %w", err), remove(temp))
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// layerOf is the one file of every image. It is not compressed: unpacking under
// emulation takes longer than reading.
func layerOf(binary string) (v1.Layer, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	header := &tar.Header{Name: strings.TrimPrefix(Binary, "/"), Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	}, tarball.WithCompressionLevel(0))
}

func imageOf(t Tag, layer v1.Layer) (v1.Image, error) {
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	ports := map[string]struct{}{}
	var listens []string
	for _, l := range t.Listens {
		ports[fmt.Sprintf("%d/%s", l.Port, l.Proto)] = struct{}{}
		listens = append(listens, fmt.Sprintf("%s:%d/%s", l.App, l.Port, l.Proto))
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = "amd64", "linux"
	config.Config = v1.Config{
		// The service's command becomes the agent's arguments, as with the real image.
		Entrypoint:   []string{Binary},
		Env:          []string{"HIVEPROOF_ROLE=" + t.Role, "HIVEPROOF_LISTEN=" + strings.Join(listens, ",")},
		ExposedPorts: ports,
	}
	return mutate.ConfigFile(img, config)
}

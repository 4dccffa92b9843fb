package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Variable is the environment variable that names the configuration file.
const Variable = "POSTRIDER_CONFIG"

// maxFile bounds a configuration file, in octets: some 50 000 devices.
const maxFile = 16 << 20

// Find says which file is the configuration: the value of --config, that of
// $POSTRIDER_CONFIG, ./postrider.yaml, /etc/postrider/postrider.yaml. The path
// is empty when there is none, which means the sandbox. A file that was named
// must exist; one that may be there but cannot be looked at is an error, since
// a relay that cannot see its configuration must not become a sandbox.
func Find(flag string) (path string, err error) {
	return find(flag, os.Getenv(Variable), []string{"./postrider.yaml", "/etc/postrider/postrider.yaml"})
}

func find(flag, variable string, places []string) (string, error) {
	if flag != "" {
		return flag, exists("--config", flag)
	}
	if variable != "" {
		return variable, exists("$"+Variable, variable)
	}
	for _, path := range places {
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return path, fmt.Errorf("find configuration: %w", err)
		}
	}
	return "", nil
}

func exists(by, path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("find configuration named by %s: %w", by, err)
	}
	return nil
}

// LoadOrSandbox loads the file that Find finds, and is the sandbox under
// ./postrider-data when there is none.
func LoadOrSandbox(flag string) (*Config, error) {
	path, err := Find(flag)
	if err != nil {
		return nil, err
	}
	if path == "" {
		return Sandbox(""), nil
	}
	return Load(path)
}

// Load reads a configuration file. What is wrong with its content is a
// Problems error.
func Load(path string) (*Config, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > maxFile {
		return nil, Problems{{File: path, Text: "the file is larger than " + Size(maxFile).String()}}
	}
	return Parse(path, data)
}

// Parse reads the content of a configuration file; path is for messages and
// becomes Config.Path.
func Parse(path string, data []byte) (*Config, error) {
	c := Defaults()
	c.Path = path
	d := decoder{file: path, where: positions{}, failed: map[string]bool{}}
	d.decode(data, c)
	c.where = d.where
	c.complete()

	problems := d.problems
	for _, p := range c.problems() {
		if !d.doubted(p.Key) {
			problems = append(problems, p)
		}
	}
	if len(problems) > 0 {
		problems.sort()
		return nil, problems
	}
	return c, nil
}

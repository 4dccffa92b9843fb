module github.com/postrider/postrider/services/delivery

go 1.26.0

require github.com/postrider/postrider/shared v0.0.0

replace github.com/postrider/postrider/shared => ../../shared

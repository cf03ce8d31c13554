# apt install mosquitto-clients
mosquitto_sub -p 1883 -v -t demo/hello &
corsac register demo.greet.shell -- sed 's/\["\(.*\)"\]/Hello, \1!/' &
sleep 1 # until both are there
mosquitto_pub -p 1883 -t demo/hello -m 'shell is here'
mosquitto_rr -p 1883 -V 5 -t '$call/demo/greet/shell' -e '$reply/1' -m fox
wait

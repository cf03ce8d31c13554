# pip install aiomqtt
import asyncio

import aiomqtt
from paho.mqtt.properties import PacketTypes, Properties


async def main():
    async with aiomqtt.Client("127.0.0.1", 1883, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for topic in ("demo/hello", "$callee/demo/greet/aiomqtt", "$reply/#"):
            await client.subscribe(topic)
        await client.publish("demo/hello", "aiomqtt is here")
        call = Properties(PacketTypes.PUBLISH)
        call.ResponseTopic = "$reply/1"
        await client.publish("$call/demo/greet/aiomqtt", "fox", properties=call)
        async for message in client.messages:
            text = message.payload.decode()
            if message.topic.matches("$callee/#"):
                await client.publish(message.properties.ResponseTopic, f"Hello, {text}!")
            else:
                print(message.topic, text)


asyncio.run(main())

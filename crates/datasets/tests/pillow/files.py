"""Writes TIFF and BMP files of many kinds to a folder, and beside each the RGB bytes that Pillow makes of it, or in
expect.json why it does not. Arguments: the folder."""

import json
import os
import struct
import sys

import numpy as np
import tifffile
from PIL import Image

out=sys.argv[1]; os.makedirs(out,exist_ok=True)
rng=np.random.default_rng(3)
H,W=37,53
def r(shape,dt=np.uint8,hi=None):
    hi=hi or (np.iinfo(dt).max+1 if np.issubdtype(dt,np.integer) else 1)
    return rng.integers(0,hi,shape).astype(dt)
def t(name,a,**k):
    try: tifffile.imwrite(f'{out}/{name}.tif',a,metadata=None,**k)
    except Exception as e: print('WRITE',name,e)
for be in '<>':
    s='be' if be=='>' else ''
    t('grey8'+s,r((H,W)),photometric='minisblack',byteorder=be)
    t('grey16'+s,r((H,W),np.uint16,600),photometric='minisblack',byteorder=be)
    t('int16'+s,(r((H,W),np.uint16).astype(np.int32)-30000).astype(np.int16),photometric='minisblack',byteorder=be)
    t('int32'+s,(r((H,W),np.uint16).astype(np.int32)-30000),photometric='minisblack',byteorder=be)
    t('uint32'+s,r((H,W),np.uint16,600).astype(np.uint32),photometric='minisblack',byteorder=be)
    t('f32'+s,(rng.random((H,W))*300-20).astype(np.float32),photometric='minisblack',byteorder=be)
    t('rgb16'+s,r((H,W,3),np.uint16),photometric='rgb',byteorder=be)
    t('rgba16'+s,r((H,W,4),np.uint16),photometric='rgb',extrasamples=['unassalpha'],byteorder=be)
    t('rgbA16'+s,r((H,W,4),np.uint16),photometric='rgb',extrasamples=['assocalpha'],byteorder=be)
    t('rgbx16'+s,r((H,W,4),np.uint16),photometric='rgb',extrasamples=[0],byteorder=be)
    t('pred2_16'+s,r((H,W,3),np.uint16),photometric='rgb',compression='zlib',predictor=True,byteorder=be)
# Of big-endian files Pillow confuses the bytes.
t('pred3_f32',(rng.random((H,W))*300).astype(np.float32),photometric='minisblack',compression='zlib',predictor=3)
t('white8',r((H,W)),photometric='miniswhite')
t('white16',r((H,W),np.uint16,600),photometric='miniswhite')
t('int8',r((H,W)).astype(np.int8),photometric='minisblack')
t('f64',rng.random((H,W))*300,photometric='minisblack')
t('f16',(rng.random((H,W))*300).astype(np.float16),photometric='minisblack')
t('la8',r((H,W,2)),photometric='minisblack',extrasamples=['unassalpha'])
t('lA8',r((H,W,2)),photometric='minisblack',extrasamples=['assocalpha'])
t('lx8',r((H,W,2)),photometric='minisblack',extrasamples=[0])
t('rgb8',r((H,W,3)),photometric='rgb')
t('rgba8',r((H,W,4)),photometric='rgb',extrasamples=['unassalpha'])
t('rgbA8',r((H,W,4)),photometric='rgb',extrasamples=['assocalpha'])
t('rgbx8',r((H,W,4)),photometric='rgb',extrasamples=[0])
t('rgbxx8',r((H,W,5)),photometric='rgb',extrasamples=[0,0])
t('rgbAx8',r((H,W,5)),photometric='rgb',extrasamples=['assocalpha',0])
t('rgbax8',r((H,W,5)),photometric='rgb',extrasamples=['unassalpha',0])
t('rgbx_pred2',r((H,W,4)),photometric='rgb',extrasamples=[0],compression='lzw',predictor=True)
t('planar_rgb8',r((3,H,W)),photometric='rgb',planarconfig='separate')
t('planar_rgbx16',r((4,H,W),np.uint16),photometric='rgb',planarconfig='separate',extrasamples=[0])
t('tiled_rgb8',r((H,W,3)),photometric='rgb',tile=(16,32))
t('tiled_planar_rgb8',r((3,H,W)),photometric='rgb',planarconfig='separate',tile=(16,16))
t('tiled_planar16x5',r((5,H,W),np.uint16),photometric='minisblack',planarconfig='separate',tile=(16,16))
for c in ['lzw','zlib','packbits']:
    t('grey_'+c,r((H,W),np.uint8,9),photometric='minisblack',compression=c,rowsperstrip=5)
    t('rgb_'+c,r((H,W,3),np.uint8,9),photometric='rgb',compression=c,rowsperstrip=5)
t('big',r((H,W,3)),photometric='rgb',bigtiff=True)
t('cmyk8',r((H,W,4)),photometric='separated')
t('cmykx8',r((H,W,5)),photometric='separated',extrasamples=[0])
t('cmyk16',r((H,W,4),np.uint16),photometric='separated')
t('five',r((H,W,5)),photometric='minisblack',planarconfig='contig')
t('palette8',r((H,W)),photometric='palette',colormap=r((3,256),np.uint16))
t('bits12',r((H,W),np.uint16,4096),photometric='minisblack',bitspersample=12) 
t('zstd',r((H,W)),photometric='minisblack',compression='zstd')
smooth=np.clip(np.add.outer(np.arange(H)*3,np.arange(W)*2)[...,None]+np.array([0,40,90]),0,255).astype(np.uint8)
t('jpeg_ycc',smooth,photometric='ycbcr',compression='jpeg',rowsperstrip=16)
t('jpeg_ycc420',smooth,photometric='ycbcr',compression='jpeg',subsampling=(2,2),rowsperstrip=16)
t('jpeg_rgb',smooth,photometric='rgb',compression='jpeg')
t('jpeg_grey',smooth[...,0].copy(),photometric='minisblack',compression='jpeg')
t('jpeg_tiled',smooth,photometric='ycbcr',compression='jpeg',tile=(16,16))
# by Pillow
def p(name,im,fmt='TIFF',**k):
    im.save(f'{out}/{name}.{"tif" if fmt=="TIFF" else "bmp"}',fmt,**k)
g=Image.fromarray(r((H,W)))
p('pil_1',g.convert('1')); p('pil_g4',g.convert('1'),compression='group4'); p('pil_g3',g.convert('1'),compression='group3')
p('pil_p',Image.fromarray(r((H,W,3))).quantize(40)); p('pil_lab',Image.merge('LAB',[g,g,g])) if 1 else 0
p('pil_jpeg',Image.fromarray(smooth),compression='jpeg'); p('pil_rgb_lzw',Image.fromarray(smooth),compression='tiff_lzw')
p('pil_orient',Image.fromarray(r((H,W,3))),tiffinfo={274:6}); p('pil_pa',Image.fromarray(r((H,W,4))).convert('P'))
# few bits by hand
def small(name,bits,photo,fill=1,palette=False,spp=1,extra=None):
    stride=(W*bits*spp+7)//8; data=rng.integers(0,256,H*stride).astype(np.uint8).tobytes()
    tags=[(256,3,1,W),(257,3,1,H),(258,3,1,bits),(259,3,1,1),(262,3,1,photo),(266,3,1,fill),(273,4,1,8),(277,3,1,spp),(278,3,1,H),(279,4,1,len(data))]
    extra=b''
    if palette:
        cm=rng.integers(0,65536,3*(1<<bits)).astype('<u2').tobytes(); tags.append((320,3,3*(1<<bits),8+len(data)+0)); extra=cm
    off=8+len(data)+len(extra)
    f=b'II*\0'+struct.pack('<I',off)+data+extra+struct.pack('<H',len(tags))
    for a,b,c,v in tags: f+=struct.pack('<HHII',a,b,c,v)
    open(f'{out}/{name}.tif','wb').write(f+b'\0\0\0\0')
for bits in (1,2,4,8):
    for ph in (0,1):
        for fill in (1,2): small(f'hand_{bits}_{"wb"[ph]}_{fill}',bits,ph,fill)
    small(f'hand_pal{bits}',bits,3,palette=True); small(f'hand_pal{bits}_r',bits,3,2,palette=True)
small('hand_12',12,1); small('hand_6',6,1); small('hand_10',10,1); small('hand_14',14,1)
small('hand_16_r',16,1,2)
# BMP
def bmp(name,bits,comp=0,masks=None,h=None,data=None,palette=b'',head=40,ncol=0):
    hh=h or H; stride=((W*bits+31)//32)*4
    data=data if data is not None else rng.integers(0,256,stride*abs(hh)).astype(np.uint8).tobytes()
    m=b''.join(struct.pack('<I',x) for x in (masks or []))
    hd=struct.pack('<IiiHHIIiiII',head,W,hh,1,bits,comp,len(data),2835,2835,ncol,0)
    if head>40: hd+=(m+b'\0'*(head-40))[:head-40]; m=b''
    off=14+len(hd)+len(m)+len(palette)
    open(f'{out}/{name}.bmp','wb').write(b'BM'+struct.pack('<IHHI',off+len(data),0,0,off)+hd+m+palette+data)
pal=lambda n: b''.join(rng.integers(0,256,3).astype(np.uint8).tobytes()+b'\0' for _ in range(n))
bmp('b16_raw',16); bmp('b16_top',16,h=-H); bmp('b16_555',16,3,[0x7c00,0x3e0,0x1f]); bmp('b16_565',16,3,[0xf800,0x7e0,0x1f])
bmp('b16_565v4',16,3,[0xf800,0x7e0,0x1f,0],head=108); bmp('b16_444',16,3,[0xf00,0xf0,0xf]); bmp('b16_4444',16,3,[0xf00,0xf0,0xf,0xf000],head=56); bmp('b16_1555',16,3,[0x7c00,0x3e0,0x1f,0x8000],head=56); bmp('b16_bad',16,3,[0xf0f0,0xf,0xf00])
bmp('b24',24); bmp('b24_top',24,h=-H); bmp('b32',32); bmp('b32_bf',32,3,[0xff0000,0xff00,0xff]); bmp('b32_v5',32,3,[0xff0000,0xff00,0xff,0xff000000],head=124); bmp('b32_rgba',32,3,[0xff,0xff00,0xff0000,0xff000000],head=108)
bmp('b32_1010',32,3,[0x3ff00000,0xffc00,0x3ff])
bmp('b8',8,palette=pal(256)); bmp('b4',4,palette=pal(16)); bmp('b1',1,palette=pal(2)); bmp('b2',2,palette=pal(4)); bmp('b8grey',8,palette=b''.join(bytes([i,i,i,0]) for i in range(256)))
row8=lambda: b''.join(bytes([n,int(rng.integers(0,256))]) for n in (50,3))+b'\0\0'
bmp('rle8',8,1,palette=pal(256),data=b''.join(row8() for _ in range(H))+b'\0\1')
bmp('rle8_delta',8,1,palette=pal(256),data=b'\0\2\5\3'+row8()*3+b'\0\1')
bmp('rle8_abs',8,1,palette=pal(256),data=(b'\0\5\1\2\3\4\5\0'+bytes([48,9])+b'\0\0')*H+b'\0\1')
bmp('rle4',4,2,palette=pal(16),data=(bytes([53,0x5a])+b'\0\0')*H+b'\0\1')
# expectations
exp={}
for f in sorted(os.listdir(out)):
    if f.endswith(('.tif','.bmp')):
        try:
            a=np.asarray(Image.open(f'{out}/{f}').convert('RGB')); open(f"{out}/{f}.rgb","wb").write(a.tobytes()); exp[f]=[a.shape[1],a.shape[0]]
        except Exception as e: exp[f]=f'{type(e).__name__}: {e}'
json.dump(exp,open(f'{out}/expect.json','w'),indent=0)
print(len(exp),'files;',sum(isinstance(v,str) for v in exp.values()),'refused by Pillow')
